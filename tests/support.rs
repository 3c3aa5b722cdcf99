//! The program under test, a real broker, and what both say.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// Longer than anything a healthy machine needs; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The repository.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap().parent().unwrap().to_owned()
    })
}

/// The program. Testing the workspace builds it, because a test of its own package runs it too;
/// testing this package alone does not.
pub(crate) fn lookout() -> Command {
    // .../target/release/deps/tests-0123 → .../target/release/lookout
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join("lookout");
    assert!(program.is_file(), "{} is not built; test with --workspace", program.display());
    let mut command = Command::new(program);
    command.current_dir(root()).env_remove("LOOKOUT_LOG").stdin(Stdio::null());
    // Not the user's.
    command.env_remove("CACHE_DIRECTORY").env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Ran {
    Ran::from(lookout().args(args).output().unwrap())
}

/// What a run left behind.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ran {
    /// Standard output as JSON, one value a line.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    }

    /// Asserts the exit code, that standard error holds each of `parts`, and that nothing
    /// panicked.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// A process that is killed when the test ends, however it ends.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Running {
    pub(crate) fn signal(&self, signal: &str) {
        let status =
            Command::new("kill").arg(signal).arg(self.0.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Its exit code; a process killed by a signal has none.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

/// The lines of a pipe, read by a thread so that waiting for one can have an end.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(pipe: impl std::io::Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                if line.is_err() || sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// The next line that `wanted` makes something of.
    #[track_caller]
    pub(crate) fn until<T>(&self, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let mut seen = String::new();
        loop {
            match self.0.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(found) = wanted(&line) {
                        return found;
                    }
                    seen += &line;
                    seen.push('\n');
                }
                Err(error) => panic!("{error}; saw:\n{seen}"),
            }
        }
    }

    /// All that is still to come.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.0.iter().collect()
    }
}

/// A free port on loopback.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A real mosquitto on loopback, without persistence.
pub(crate) struct Mosquitto {
    port: u16,
    config: tempfile::NamedTempFile,
    process: Option<Running>,
}

impl Mosquitto {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let mut config = tempfile::NamedTempFile::new().unwrap();
        writeln!(config, "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false")
            .unwrap();
        let mut it = Self { port, config, process: None };
        it.restart();
        it
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn restart(&mut self) {
        self.process = None;
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(self.config.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto should be installed; `cargo xtask test --yes` does it");
        let mut running = Running(child);
        let log = Lines::of(running.0.stderr.take().unwrap());
        log.until(|line| line.contains("running").then_some(()));
        // Its log is read to the end, or a full pipe would stop the broker.
        std::thread::spawn(move || log.rest());
        self.process = Some(running);
    }

    /// Every message under `lookout/#` from now on, what is retained first.
    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription::to(self.port)
    }
}

/// `mosquitto_sub` at work.
pub(crate) struct Subscription {
    lines: Lines,
    _process: Running,
}

/// A message as `mosquitto_sub` saw it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) retained: bool,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap()
    }
}

impl Subscription {
    pub(crate) fn to(port: u16) -> Self {
        let mut child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", "lookout/#"])
            .args(["-F", "%r %t %p"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub should be installed; `cargo xtask test --yes` does it");
        let stdout: ChildStdout = child.stdout.take().unwrap();
        Self { lines: Lines::of(stdout), _process: Running(child) }
    }

    /// The next message that `wanted` accepts.
    #[track_caller]
    pub(crate) fn until(&self, mut wanted: impl FnMut(&Message) -> bool) -> Message {
        self.lines.until(|line| {
            let mut parts = line.splitn(3, ' ');
            let message = Message {
                retained: parts.next() == Some("1"),
                topic: parts.next().unwrap_or_default().to_owned(),
                payload: parts.next().unwrap_or_default().to_owned(),
            };
            wanted(&message).then_some(message)
        })
    }

    #[track_caller]
    pub(crate) fn until_topic(&self, topic: &str) -> Message {
        self.until(|it| it.topic == topic)
    }
}
