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
use lookout_store::{EventSpool, State, StateFile, StoreError, set_aside};

/// What an earlier run left, which this process alone may go on with.
pub(crate) struct Kept {
    /// The state file.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) state: State,
    /// The events that wait; `None` where there can be no such file, which was told.
    pub(crate) spool: Option<Box<dyn Spool>>,
}

/// Whether what is at the place of the state may be replaced: it is a state, damaged or not, or nothing.
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
    match State::read(&path) {
        Err(error @ (StoreError::NoFile { .. } | StoreError::Other { .. })) => {
            Err(fault(format!("cannot be used: {error}")))
        }
        // Told when it is opened; the daemon goes on without it.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Opens the files; `None` where nothing is kept. A state that cannot be read is told and hinders nobody:
/// what is on show is announced once more, as after the first start.
///
/// Errs when another process has them, or the events are something else.
pub(crate) fn open(place: &StatePlace, node_id: &str) -> anyhow::Result<Option<Kept>> {
    let Some(path) = path(place, node_id) else {
        if *place == StatePlace::Usual {
            tracing::info!("There is no folder for states: a restart announces anew what it sees.");
        }
        return Ok(None);
    };
    if let (StatePlace::Usual, Some(folder)) = (place, path.parent())
        && let Err(error) = fs::create_dir_all(folder)
    {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "The folder of the state cannot be made.");
    }
    let spool = spool(&path)?;
    let state = State::read(&path).unwrap_or_else(|error| {
        let copy = copied(&path, &error);
        let error = anyhow!(error);
        tracing::warn!(
            "What was announced last is lost, and what the cameras show is announced once more: \
             {error:#}{copy}"
        );
        State::default()
    });
    Ok(Some(Kept { path, state, spool }))
}

/// The events beside the state at `path`. Having them is having the state.
fn spool(path: &Path) -> anyhow::Result<Option<Box<dyn Spool>>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".events");
    let events = PathBuf::from(name);
    match EventSpool::open(&events) {
        Ok((spool, n_damaged)) => {
            if 0 < n_damaged {
                let copy = copied(&events, &damaged(&events, n_damaged));
                tracing::warn!(
                    "Of the events that waited for the broker {n_damaged} cannot be read and are \
                     lost{copy}"
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
            let copy = copied(&events, &error);
            let error = anyhow!(error);
            tracing::warn!(
                "Events that wait for the broker are lost at the end of the program: {error:#}{copy}"
            );
            Ok(None)
        }
    }
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

/// Where the state lies; `None`: nowhere.
fn path(place: &StatePlace, node_id: &str) -> Option<PathBuf> {
    match place {
        StatePlace::Off => None,
        StatePlace::File(path) => Some(path.clone()),
        StatePlace::Usual => Some(usual_folder()?.join(format!("{node_id}.state"))),
    }
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
