//! Every key of the configuration with its rule and default.

use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

use config::ValueKind;
use lookout_core::{AdaptationMode, Device, Id, Weighting};

use crate::labels::Words;
use crate::layers;
use crate::walk::{Section, Walk, quote};
use crate::{
    BankPlace, Camera, Config, ConfigError, Decision, Encoder, Fusion, Gate, LabelSet, Mqtt,
    StatePlace,
};

/// A score that something must reach: 0 would accept everything.
pub(crate) const SCORE: (Bound<f64>, Bound<f64>) = (Bound::Excluded(0.0), Bound::Included(1.0));
/// Camera ids that are topics of the node.
const RESERVED: [&str; 2] = ["status", "info"];
const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;
const MAX_HOST_LEN: usize = 253;
const MAX_NAME_LEN: usize = 64;

const DECISION: Decision = Decision {
    enter: None,
    margin: None,
    exit: None,
    sigmas: None,
    familiarity: None,
    smoothing: Duration::from_secs(1),
    dwell: Duration::from_secs(1),
    cooldown: Duration::from_secs(10),
    stale_after: Duration::from_secs(30),
};

pub(crate) fn load(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Config, ConfigError> {
    let merged = layers::merge(path, env, flags)?;
    let mut walk = Walk::new(path, &merged);
    let mut top = walk.top(merged.tree);

    let node = top.id("node");
    top.require("model", "the folder of a model bundle, such as \"models/starter\"");
    let model = top.path("model");
    let index = top.path("index");
    let taught = top.path("taught");
    let adaptation = adaptation(&mut top);
    let calibration = match top.place("calibration") {
        StatePlace::File(path) => Some(path),
        StatePlace::Usual | StatePlace::Off => None,
    };
    let state = top.place("state");
    let words = Words::read(&mut top);
    let bank = bank(top.section("background"));
    let encoder = encoder(top.section("encoder"));
    let fusion = fusion(top.section("fusion"));
    let decision = decision(top.section("decision"), DECISION);
    let gate = gate(top.section("gate"));
    top.require("mqtt", "the broker, at least `host`");
    let mqtt = top.has("mqtt").then(|| mqtt(top.section("mqtt"))).flatten();
    let mut stop = top.section("stop");
    let stop_grace = stop.some_seconds("grace_s").unwrap_or(Duration::from_secs(10));
    stop.finish();
    let cameras = cameras(&mut top, &words, decision);
    if bank == BankPlace::Off {
        for camera in cameras.iter().flatten().filter(|it| it.decision.familiarity.is_some()) {
            let own = format!("cameras.{}.decision.familiarity", camera.id);
            let walk = top.walk();
            let key = if walk.places.contains_key(&own) { &own } else { "decision.familiarity" };
            if !walk.faults.iter().any(|it| it.key == *key) {
                walk.fault(key, "needs `background.bank`, such as \"everyday\"", None);
            }
        }
    }
    top.finish();

    let places = walk.finish()?;
    // Each of these is there when no fault was found; the error is for the day when it is not.
    let (Some(model), Some(mqtt), Some(cameras)) = (model, mqtt, cameras) else {
        return Err(ConfigError::unreadable(path, "is incomplete"));
    };
    let file = path.to_owned();
    Ok(Config {
        file,
        node,
        model,
        index,
        taught,
        bank,
        adaptation,
        calibration,
        state,
        encoder,
        fusion,
        gate,
        mqtt,
        cameras,
        stop_grace,
        places,
    })
}

/// A file named `off` or `everyday` is reached as `./off`.
fn bank(mut section: Section<'_>) -> BankPlace {
    const KEY: &str = "bank";
    let place = section.place_or(KEY, "\"off\", \"everyday\" or a path");
    let name = section.peek(KEY, |kind, _| match kind {
        ValueKind::String(it) => Some(it.trim().to_owned()),
        _ => None,
    });
    section.finish();
    match (name.as_deref(), place) {
        (Some("everyday"), _) => BankPlace::Everyday,
        (_, StatePlace::Usual | StatePlace::Off) => BankPlace::Off,
        (_, StatePlace::File(path)) => BankPlace::File(path),
    }
}

fn adaptation(top: &mut Section<'_>) -> Option<AdaptationMode> {
    let rule = "\"off\", \"shadow\" or \"on\"";
    let mode = top.text("adaptation", rule, |it| matches!(it, "off" | "shadow" | "on"))?;
    match mode.as_str() {
        "shadow" => Some(AdaptationMode::Shadow),
        "on" => Some(AdaptationMode::On),
        _ => None,
    }
}

fn encoder(mut section: Section<'_>) -> Encoder {
    let device = section.text("device", Device::RULE, |it| it.parse::<Device>().is_ok());
    let device = device.and_then(|it| it.parse().ok()).unwrap_or_default();
    section.finish();
    Encoder { device }
}

fn fusion(mut section: Section<'_>) -> Fusion {
    let name = section.text("weighting", "\"pooled\", \"memoryless\" or \"history\"", |it| {
        matches!(it, "pooled" | "memoryless" | "history")
    });
    let window = section.window("window");
    let history = name.as_deref() == Some("history");
    if history {
        section.require(
            "window",
            "how many frames weighting \"history\" looks back, or \"unbounded\"",
        );
    } else if window.is_some() {
        section.fault("window", "has a meaning only with weighting = \"history\"", None);
    }
    let weighting = match name.as_deref() {
        Some("history") => window.map(Weighting::History),
        Some("memoryless") => Some(Weighting::Memoryless),
        Some(_) => Some(Weighting::Pooled),
        None => None,
    };
    let captions = section.integer("captions", 1..=256).map(|it| it as usize);
    let candidates = section.integer("candidates", 1..=4096).map(|it| it as usize);
    if let (Some(captions), Some(candidates)) = (captions, candidates)
        && candidates < captions
    {
        let rule = format!("must be at least captions ({captions})");
        section.fault("candidates", rule, Some(candidates.to_string()));
    }
    let rerank = section.boolean("rerank").unwrap_or(true);
    let dedupe = section.boolean("dedupe").unwrap_or(true);
    section.finish();
    Fusion { weighting, rerank, dedupe, captions, candidates }
}

fn decision(mut section: Section<'_>, base: Decision) -> Decision {
    let enter = section.number("enter", SCORE);
    let margin = section.number("margin", 0.0..=1.0);
    let exit = section.number("exit", 0.0..=1.0);
    let sigmas = section.number("sigmas", (Bound::Excluded(0.0), Bound::Included(1000.0)));
    let familiarity = section.number("familiarity", SCORE);
    let decision = Decision {
        enter: enter.or(base.enter),
        margin: margin.or(base.margin),
        exit: exit.or(base.exit),
        sigmas: sigmas.or(base.sigmas),
        familiarity: familiarity.or(base.familiarity),
        smoothing: section.seconds("smoothing_s").unwrap_or(base.smoothing),
        dwell: section.seconds("dwell_s").unwrap_or(base.dwell),
        cooldown: section.seconds("cooldown_s").unwrap_or(base.cooldown),
        stale_after: section.some_seconds("stale_after_s").unwrap_or(base.stale_after),
    };
    if let (Some(enter_score), Some(exit_score)) = (decision.enter, decision.exit)
        && enter_score < exit_score
        && (enter.is_some() || exit.is_some())
    {
        let key = if exit.is_some() { "exit" } else { "enter" };
        let rule = format!("leaves exit ({exit_score}) above enter ({enter_score})");
        section.fault(key, rule, None);
    }
    section.finish();
    decision
}

fn gate(mut section: Section<'_>) -> Gate {
    let gate = Gate {
        luma_change: section.number("luma_change", 0.0..=255.0).unwrap_or(0.0),
        interval: section.some_seconds("interval_s").unwrap_or(Duration::from_secs(10)),
    };
    section.finish();
    gate
}

fn mqtt(mut section: Section<'_>) -> Option<Mqtt> {
    section.require("host", "name or address of the broker");
    let host = section.text("host", "a host name or address without scheme and port", |it| {
        (1..=MAX_HOST_LEN).contains(&it.len())
            && !it.chars().any(|c| c.is_whitespace() || c.is_control() || "/@[]".contains(c))
            && (!it.contains(':') || it.parse::<std::net::Ipv6Addr>().is_ok())
    });
    let tls = section.boolean("tls").unwrap_or(false);
    let port = section.integer("port", 1..=65_535).and_then(|it| u16::try_from(it).ok());
    let base = section.text(
        "base",
        "topic levels: 1 to 64 characters without +, #, $ and spaces, no / at the ends",
        is_topic,
    );
    let user = section.text("user", "1 to 64 characters", is_name);
    section.refuse(
        "password",
        "is refused: a password in a configuration file is read by whoever reads that; write it \
         to a file of its own and name that in `password_file`",
    );
    let password_file = section.path("password_file");
    if section.has("password_file") && !section.has("user") {
        section.fault("password_file", "needs `user` beside it", None);
    }
    let client_id = section.text("client_id", "1 to 64 characters", is_name);
    let keep_alive = section.integer("keep_alive_s", 5..=3600).unwrap_or(15);
    let max_packet_kib = section.integer("max_packet_kib", 16..=16_384).unwrap_or(256);
    let heartbeat = section.some_seconds("heartbeat_s").unwrap_or(Duration::from_secs(60));
    let ca_file = section.path("ca_file");
    if section.has("ca_file") && !tls {
        section.fault("ca_file", "has a meaning only with tls = true", None);
    }
    section.finish();
    Some(Mqtt {
        host: host?,
        port: port.unwrap_or(if tls { PORT_TLS } else { PORT }),
        base: base.unwrap_or_else(|| "lookout".to_owned()),
        user,
        password_file,
        client_id,
        keep_alive: Duration::from_secs(keep_alive.into()),
        max_packet: max_packet_kib as usize * 1024,
        heartbeat,
        tls,
        ca_file,
    })
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn is_topic(text: &str) -> bool {
    is_name(text)
        && text.split('/').all(|level| !level.is_empty())
        && !text.chars().any(|c| matches!(c, '+' | '#' | '$') || c.is_whitespace())
}

/// `None` when a camera is faulty, which is reported.
fn cameras(top: &mut Section<'_>, top_words: &Words, base: Decision) -> Option<Vec<Camera>> {
    let mut section = top.section("cameras");
    let names = section.names();
    if names.is_empty() {
        let rule = "needs at least 1 camera: a table [cameras.NAME] with `uri`";
        section.walk().fault("cameras", rule, None);
        return None;
    }
    // The top level's own words are checked once, not for each camera that uses them.
    let mut shared: Option<Option<LabelSet>> = None;
    let mut cameras = Vec::new();
    for name in &names {
        let id = Id::new(name.as_str()).ok().filter(|it| !RESERVED.contains(&it.as_str()));
        if id.is_none() {
            let rule = "must have an id of 1 to 32 characters of a-z, 0-9 and _, and not `status` or `info`";
            section.fault(name, rule, Some(quote(name)));
        }
        let path = format!("{}.", section.full(name));
        let mut camera = section.section(name);
        camera.require("uri", "where its frames come from, such as \"dir:///pictures\"");
        let uri = camera.text("uri", "a camera URI", |it| !it.trim().is_empty());
        let from_file = !camera.origin("uri").is_text();
        if !from_file && uri.as_deref().is_some_and(|it| it.trim_start().starts_with("exec:")) {
            camera.fault("uri", "may name a command only in the configuration file", None);
        }
        let enabled = camera.boolean("enabled").unwrap_or(true);
        let max_fps = camera.number("max_fps", 0.001..=1000.0).unwrap_or(2.0);
        let max_age = camera.some_seconds("max_age_s").unwrap_or(Duration::from_secs(2));
        let stall_after = camera.some_seconds("stall_after_s").unwrap_or(Duration::from_secs(10));
        let words = Words::read(&mut camera);
        let labels = if words.is_empty() {
            shared.get_or_insert_with(|| top_words.label_set("", camera.walk())).clone()
        } else {
            words.over(top_words).label_set(&path, camera.walk())
        };
        let decision = decision(camera.section("decision"), base);
        camera.finish();
        if let (Some(id), Some(uri), Some(labels)) = (id, uri, labels) {
            cameras.push(Camera {
                id,
                uri,
                enabled,
                max_fps,
                max_age,
                stall_after,
                labels,
                decision,
            });
        }
    }
    (cameras.len() == names.len()).then_some(cameras)
}
