//! What a daemon keeps from one run to the next: what it said, and the events that its broker has not
//! acknowledged. Where both lie, and what is told where they cannot be used.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use anyhow::{Context, anyhow};
use lookout_config::{Config, Fault, StatePlace};
use lookout_core::{CameraMemory, Id, PortError, Remember, Spool};
use lookout_pipeline::Earlier;
use lookout_store::{EventSpool, FusedFrom, State, StateFile, StoreError, set_aside};

use crate::output;
use crate::plan::PlannedCamera;

/// What an earlier run left, which this process alone may go on with.
pub(crate) struct Kept {
    /// The state file.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) state: State,
    /// The events that wait; `None` where there is a file and no sense in it, which was told.
    pub(crate) spool: Option<Box<dyn Spool>>,
    /// The number of the last event of all runs.
    pub(crate) n_events: u64,
}

impl Kept {
    /// What is left of a camera whose fusion is now made `from` these.
    pub(crate) fn earlier(&self, camera: &PlannedCamera, from: &FusedFrom<'_>) -> Earlier {
        let id = &camera.settings.id;
        let (said, means) = self.state.camera(id, &camera.classes, from);
        Earlier { said, means, last_event: self.state.last_event(id).unwrap_or(0) }
    }
}

/// Whether what is at the places of state and events may be replaced: it is theirs, damaged or not, or nothing.
pub(crate) fn check(config: &Config, node_id: &str) -> Result<(), Fault> {
    let Some(path) = path(&config.state, node_id) else { return Ok(()) };
    let fault = |rule: String| config.fault("state", rule, None);
    if let (StatePlace::File(_), Some(folder)) = (&config.state, path.parent())
        && !folder.is_dir()
    {
        return Err(fault(format!(
            "cannot be used: its folder {} does not exist",
            folder.display()
        )));
    }
    for result in [State::read(&path).map(drop), EventSpool::check(&events(&path))] {
        // Anything else is told when it is opened, and the daemon goes on without it.
        if let Err(error @ (StoreError::NoFile { .. } | StoreError::Other { .. })) = result {
            return Err(fault(format!("cannot be used: {error}")));
        }
    }
    Ok(())
}

/// Opens the files; `None` where nothing is kept. A state that cannot be read is told and hinders nobody:
/// what is on show is announced once more, as after the first start.
///
/// Errs when another process has them, or the events are something else.
pub(crate) fn open(place: &StatePlace, node_id: &str) -> anyhow::Result<Option<Kept>> {
    let Some(path) = path(place, node_id) else {
        if *place == StatePlace::Usual {
            tracing::info!(
                "There is no folder for states: a restart announces anew what it sees, and the end of the \
                 program loses the events that wait for the broker. Set `state` to a file, or to \"off\"."
            );
        }
        return Ok(None);
    };
    if let (StatePlace::Usual, Some(folder)) = (place, path.parent())
        && let Err(error) = fs::create_dir_all(folder)
    {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "The folder of the state cannot be made.");
    }
    let mut spool = spool(&path)?;
    let state = State::read(&path).unwrap_or_else(|error| {
        let copy = copied(&path, &error);
        let error = anyhow!(error);
        tracing::warn!(
            "What was announced last is lost, and what the cameras show is announced once more: \
             {error:#}{copy}"
        );
        State::default()
    });
    let mut n_events = state.n_events();
    for event in spool.as_ref().map_or_else(Vec::new, |it| it.waiting()) {
        n_events = n_events.max(event.number);
        let never_told = state.last_event(&event.camera).is_some_and(|last| last < event.number);
        if let (true, Some(spool)) = (never_told, &mut spool) {
            tracing::debug!(camera = %event.camera, "An event that nobody was told of is taken back.");
            if let Err(error) = spool.remove(event.number) {
                tracing::debug!(%error, "It is taken back for this run alone.");
            }
        }
    }
    Ok(Some(Kept { path, state, spool, n_events }))
}

/// The events beside the state at `path`. Having them is having the state.
fn spool(path: &Path) -> anyhow::Result<Option<Box<dyn Spool>>> {
    let events = events(path);
    match EventSpool::open(&events) {
        Ok((spool, n_damaged)) => {
            if 0 < n_damaged {
                let copy = copied(&events, &damaged(&events, n_damaged));
                tracing::warn!(
                    "Of the file of events that wait for the broker {} cannot be read{copy}",
                    output::count(n_damaged, "line")
                );
            }
            Ok(Some(Box::new(spool)))
        }
        Err(error @ StoreError::InUse { .. }) => Err(error).with_context(|| {
            format!(
                "another daemon keeps its state in {}; give each its own `node` or `state`",
                path.display()
            )
        }),
        Err(error @ (StoreError::NoFile { .. } | StoreError::Other { .. })) => Err(error.into()),
        Err(error) => {
            tracing::warn!(
                "The end of the program loses the events that wait for the broker, as their file is of no \
                 use; move it away: {:#}",
                anyhow!(error)
            );
            Ok(None)
        }
    }
}

/// The file of the events that belong to the state at `path`.
fn events(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".events");
    name.into()
}

fn damaged(path: &Path, n_lines: usize) -> StoreError {
    let reason = format!("{n_lines} lines are not what was written");
    StoreError::Damaged { path: path.to_path_buf(), reason }
}

/// Copies a damaged file aside; what is to be said of it.
fn copied(path: &Path, error: &StoreError) -> String {
    let StoreError::Damaged { .. } = error else { return ".".to_owned() };
    match set_aside(path) {
        Ok(copy) => format!("; a copy of the file is {}.", copy.display()),
        Err(error) => format!("; the file cannot be copied aside: {error}."),
    }
}

/// Where the state lies; `None`: nowhere. A link stays one: what it leads to is the file.
fn path(place: &StatePlace, node_id: &str) -> Option<PathBuf> {
    let path = match place {
        StatePlace::Off => return None,
        StatePlace::File(path) => path.clone(),
        StatePlace::Usual => usual_folder()?.join(format!("{node_id}.state")),
    };
    Some(fs::canonicalize(&path).unwrap_or(path))
}

/// Where a service manager or the user has such files.
fn usual_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let of_service = variable("STATE_DIRECTORY");
    let of_user = || {
        let named = variable("XDG_STATE_HOME").filter(|it| it.is_absolute());
        let folder = named.or_else(|| Some(variable("HOME")?.join(".local/state")));
        folder.map(|it| it.join("lookout"))
    };
    of_service.or_else(of_user)
}

/// A state file whose failures the operator sees.
pub(crate) struct Watched {
    pub(crate) file: StateFile,
    pub(crate) is_behind: Arc<AtomicBool>,
}

impl Remember for Watched {
    fn remember(&mut self, cameras: &BTreeMap<Id, CameraMemory>) -> Result<(), PortError> {
        let result = self.file.remember(cameras);
        self.is_behind.store(result.is_err(), SeqCst);
        result
    }
}
