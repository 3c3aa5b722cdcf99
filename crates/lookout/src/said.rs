//! What the daemon said, from one run to the next: where it is kept, and what is told where it cannot be.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use lookout_config::StatePlace;
use lookout_core::{CameraMemory, Id, PortError, Remember};
use lookout_store::{State, StateFile};

/// The file and what is in it; `None` where nothing is kept. A file that cannot be read is told and
/// hinders nobody: what is on show is announced once more, as after the first start.
pub(crate) fn open(place: &StatePlace, node_id: &str) -> Option<(PathBuf, State)> {
    let path = match place {
        StatePlace::Off => return None,
        StatePlace::File(path) => path.clone(),
        StatePlace::Usual => {
            let Some(folder) = usual_folder() else {
                tracing::info!(
                    "There is no folder for states: a restart announces anew what it sees."
                );
                return None;
            };
            folder.join(format!("{node_id}.state"))
        }
    };
    if let Some(folder) = path.parent()
        && let Err(error) = fs::create_dir_all(folder)
    {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "The folder of the state cannot be made.");
    }
    let state = State::read(&path).unwrap_or_else(|error| {
        let error = anyhow::Error::from(error);
        tracing::warn!(
            "What was announced last is lost, and what the cameras show is announced once more: \
             {error:#}. A damaged file is copied beside it, with `.damaged` added to its name."
        );
        State::default()
    });
    Some((path, state))
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
