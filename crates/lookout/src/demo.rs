//! `lookout demo`: the daemon on sample pictures, with a broker of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;
use lookout_broker::Broker;
use lookout_config::Config;
use lookout_core::{CameraStatus, ClassSet, Decision, Evidence, Id, Publish};
use lookout_pipeline::Event;
use lookout_publish::payload::{EvidencePayload, PictureLine};

use crate::cli::DemoArgs;
use crate::daemon;
use crate::failure::Failure;
use crate::packs::Packs;
use crate::plan::Plan;
use crate::{assets, classify, output};

/// A broker in the same process answers within milliseconds.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let config = assets::find(assets::DEMO_CONFIG)?;
    let broker = Broker::start(args.port).map_err(anyhow::Error::from)?;
    let (host, port) = (broker.addr().ip(), broker.addr().port());
    output::complain(&format!(
        "demo: broker on {host}:{port}; try: mosquitto_sub -h {host} -p {port} -t 'lookout/#' -v"
    ));
    let flags = [
        ("mqtt.host", host.to_string()),
        ("mqtt.port", port.to_string()),
        ("state", "off".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let plan = Plan::make(Config::load(&config, [], &flags)?, &Packs::here())?;
    let format = if args.json { Format::Json } else { Format::Text };
    let print_error = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&print_error);
    daemon::serve(plan, None, |publisher, events| {
        // Evidence is not kept for a broker that is away, and this one is about to be there.
        if !publisher.wait_connected(CONNECT_PATIENCE) {
            tracing::warn!("The demo's broker does not answer; evidence may be missing there.");
        }
        let publish = Arc::clone(publisher) as Arc<dyn Publish>;
        let n_left = args.frames.map(AtomicU64::new);
        Arc::new(Printer { publish, events, format, n_left, print_error: seen })
    })?;
    drop(broker);
    let failed = print_error.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map_or(Ok(()), |error: anyhow::Error| Err(Failure::Other(error)))
}

#[derive(Clone, Copy)]
enum Format {
    Text,
    Json,
}

/// Prints each decision on its way to the publisher, and asks for the end after enough of them.
struct Printer {
    publish: Arc<dyn Publish>,
    events: Sender<Event>,
    format: Format,
    n_left: Option<AtomicU64>,
    /// Why the demo ends before its time.
    print_error: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Publish for Printer {
    fn camera_status(&self, camera: &Id, status: CameraStatus) {
        self.publish.camera_status(camera, status);
    }

    fn keep(&self, decision: &Decision) {
        self.publish.keep(decision);
    }

    fn decision(&self, decision: Decision) {
        let Some(evidence) = &decision.evidence else { return self.publish.decision(decision) };
        let n_left = self.n_left.as_ref().map(|it| it.load(SeqCst));
        if n_left == Some(0) || self.print_error().is_some() {
            // Asked for the end already; asking twice would force it.
            return;
        }
        let printed = self.print(&decision, evidence);
        self.publish.decision(decision);
        if let Some(counter) = &self.n_left {
            counter.fetch_sub(1, SeqCst);
        }
        let is_over = printed.is_err() || n_left == Some(1);
        if let Err(error) = printed {
            *self.print_error() = Some(error);
        }
        if is_over && self.events.send(Event::StopRequested).is_err() {
            tracing::debug!("The supervisor has ended.");
        }
    }

    fn classes(&self, cameras: &BTreeMap<Id, Arc<ClassSet>>) {
        self.publish.classes(cameras);
    }
}

impl Printer {
    fn print_error(&self) -> MutexGuard<'_, Option<anyhow::Error>> {
        self.print_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, decision: &Decision, evidence: &Evidence) -> anyhow::Result<()> {
        let classes = &decision.classes;
        let picture = decision.frame_name.as_deref().unwrap_or(decision.camera.as_str());
        let (state, reason) = (decision.snapshot.state, decision.snapshot.reason);
        match self.format {
            Format::Text => {
                output::line(classify::describe(picture, classes, evidence, state, reason))
            }
            Format::Json => {
                let payload = EvidencePayload::new(classes, evidence, state, reason, None, None)?;
                output::json_line(&PictureLine::new(picture, payload))
            }
        }
    }
}
