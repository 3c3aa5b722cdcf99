//! What of a changed configuration waits for the next start.

use std::collections::BTreeSet;

use lookout_core::{Id, Weighting};

use crate::{Camera, Config, Encoder, Fusion, Gate, Mqtt};

impl Config {
    /// The keys whose values differ in `new`, but for those that can change while cameras run:
    /// label sets, calibration and the rules of decision. A camera that only one of both has is named as a
    /// whole.
    pub fn changes_for_restart(&self, new: &Self) -> Vec<String> {
        // Taken apart by name, so that a new key does not compile before it is decided about.
        let Self {
            file: _,
            places: _,
            node,
            model,
            index,
            taught,
            bank,
            adaptation,
            calibration: _,
            state,
            encoder: Encoder { device },
            fusion: Fusion { weighting, rerank, dedupe, captions, candidates },
            gate: Gate { luma_change, interval },
            mqtt,
            cameras,
            stop_grace,
        } = self;
        let mut changes = Changes::default();
        changes.note("node", node, &new.node);
        changes.note("model", model, &new.model);
        changes.note("index", index, &new.index);
        changes.note("taught", taught, &new.taught);
        changes.note("background.bank", bank, &new.bank);
        changes.note("adaptation", adaptation, &new.adaptation);
        changes.note("state", state, &new.state);
        changes.note("encoder.device", device, &new.encoder.device);
        let weighting_key = match (weighting, new.fusion.weighting) {
            (Some(Weighting::History(_)), Some(Weighting::History(_))) => "fusion.window",
            _ => "fusion.weighting",
        };
        changes.note(weighting_key, weighting, &new.fusion.weighting);
        changes.note("fusion.rerank", rerank, &new.fusion.rerank);
        changes.note("fusion.dedupe", dedupe, &new.fusion.dedupe);
        changes.note("fusion.captions", captions, &new.fusion.captions);
        changes.note("fusion.candidates", candidates, &new.fusion.candidates);
        changes.note("gate.luma_change", luma_change, &new.gate.luma_change);
        changes.note("gate.interval_s", interval, &new.gate.interval);
        changes.mqtt(mqtt, &new.mqtt);
        changes.note("stop.grace_s", stop_grace, &new.stop_grace);
        let ids = |it: &[Camera]| it.iter().map(|it| it.id.clone()).collect::<BTreeSet<Id>>();
        for id in ids(cameras).union(&ids(&new.cameras)) {
            let of = |it: &[Camera]| it.iter().position(|it| it.id == *id);
            match (of(cameras), of(&new.cameras)) {
                (Some(old), Some(it)) => changes.camera(&cameras[old], &new.cameras[it]),
                _ => changes.0.push(format!("cameras.{id}")),
            }
        }
        changes.0
    }
}

#[derive(Default)]
struct Changes(Vec<String>);

impl Changes {
    fn note<T: PartialEq>(&mut self, key: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(key.to_owned());
        }
    }

    fn mqtt(&mut self, old: &Mqtt, new: &Mqtt) {
        let Mqtt {
            host,
            port,
            base,
            user,
            password_file,
            client_id,
            keep_alive,
            max_packet,
            heartbeat,
            tls,
            ca_file,
        } = old;
        self.note("mqtt.host", host, &new.host);
        self.note("mqtt.port", port, &new.port);
        self.note("mqtt.base", base, &new.base);
        self.note("mqtt.user", user, &new.user);
        self.note("mqtt.password_file", password_file, &new.password_file);
        self.note("mqtt.client_id", client_id, &new.client_id);
        self.note("mqtt.keep_alive_s", keep_alive, &new.keep_alive);
        self.note("mqtt.max_packet_kib", max_packet, &new.max_packet);
        self.note("mqtt.heartbeat_s", heartbeat, &new.heartbeat);
        self.note("mqtt.tls", tls, &new.tls);
        self.note("mqtt.ca_file", ca_file, &new.ca_file);
    }

    fn camera(&mut self, old: &Camera, new: &Camera) {
        let Camera { id, uri, enabled, max_fps, max_age, stall_after, labels: _, decision: _ } =
            old;
        let key = |name: &str| format!("cameras.{id}.{name}");
        self.note(&key("uri"), uri, &new.uri);
        self.note(&key("enabled"), enabled, &new.enabled);
        self.note(&key("max_fps"), max_fps, &new.max_fps);
        self.note(&key("max_age_s"), max_age, &new.max_age);
        self.note(&key("stall_after_s"), stall_after, &new.stall_after);
    }
}
