//! A real mosquitto on loopback, its clients, and a gate in front of it.
//!
//! Stands by itself, so that other test binaries can include the file. Needs Debian's packages
//! `mosquitto` and `mosquitto-clients`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Far more than any step takes.
const LONG: Duration = Duration::from_secs(20);

/// A user and password that the broker knows.
pub(crate) const USER: (&str, &str) = ("lookout", "correct horse");

/// Topic of the message that a subscriber waits for.
const READY: &str = "ready";

/// A broker without persistence; killed when dropped.
pub(crate) struct Mosquitto {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Mosquitto {
    /// Only [`USER`] may connect. With `tls`, a certificate and its key in PEM, only over TLS.
    pub(crate) fn start(tls: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let passwd = Command::new("mosquitto_passwd")
            .args(["-b", "-c", &at("passwd"), USER.0, USER.1])
            .stderr(Stdio::null())
            .status();
        assert!(passwd.expect("mosquitto should be installed").success());
        let mut config = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\n",
            at("passwd")
        );
        if let Some((certificate, key)) = tls {
            fs::write(at("cert.pem"), certificate).unwrap();
            fs::write(at("key.pem"), key).unwrap();
            config += &format!("certfile {}\nkeyfile {}\n", at("cert.pem"), at("key.pem"));
        }
        fs::write(at("mosquitto.conf"), config).unwrap();
        let child = spawn(&folder);
        Self { folder, port, child }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as a power cut would: SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, without memory.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.folder);
    }

    /// Subscribes to `filter` and waits until that counts.
    pub(crate) fn subscribe(&self, filter: &str) -> Subscriber {
        // `mosquitto_sub` says nothing until a message comes, so one waits for it. It is the
        // first: the broker answers the filters of one request in order.
        let published = self.client("mosquitto_pub", &["-t", READY, "-m", "-", "-r"]).status();
        assert!(published.expect("mosquitto-clients should be installed").success());
        let mut child = self
            .client("mosquitto_sub", &["-F", "%r %t %p", "-t", READY, "-t", filter])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto-clients should be installed");
        let lines = lines(child.stdout.take().unwrap());
        let subscriber = Subscriber { child, lines };
        while subscriber.line() != format!("1 {READY} -") {}
        subscriber
    }

    fn client(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-u", USER.0, "-P", USER.1])
            .args(["-q", "1"])
            .args(args)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may be dead already.
        _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Starts the broker and waits until it listens.
fn spawn(folder: &TempDir) -> Child {
    let mut child = Command::new("mosquitto")
        .arg("-v")
        .arg("-c")
        .arg(folder.path().join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mosquitto should be installed and on PATH (Debian has it in /usr/sbin)");
    let log = lines(child.stderr.take().unwrap());
    let mut said = std::iter::from_fn(|| log.recv_timeout(LONG).ok());
    if !said.any(|line| line.ends_with(" running")) {
        _ = child.kill().and_then(|()| child.wait());
        panic!("mosquitto should start");
    }
    child
}

/// Reads lines for as long as they come.
fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // Nobody may listen any more; the pipe is emptied all the same.
            _ = sender.send(line);
        }
    });
    receiver
}

/// A running `mosquitto_sub`.
pub(crate) struct Subscriber {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Subscriber {
    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(LONG).expect("a message should come")
    }

    /// The next message: whether it was retained, topic, payload.
    #[track_caller]
    pub(crate) fn next(&self) -> (bool, String, String) {
        let line = self.line();
        let mut parts = line.splitn(3, ' ').map(str::to_owned);
        let mut part = || parts.next().unwrap();
        (part() == "1", part(), part())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Forwards connections to a port while it is open, and closes them at once while it is shut.
pub(crate) struct Gate {
    port: u16,
    is_open: Arc<AtomicBool>,
}

impl Gate {
    /// An open gate in front of `target`, on loopback. Its thread lives as long as the process.
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_open = Arc::new(AtomicBool::new(true));
        let open = Arc::clone(&is_open);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if open.load(Ordering::SeqCst)
                    && let Ok(far) = TcpStream::connect(("127.0.0.1", target))
                {
                    forward(&near, &far);
                    forward(&far, &near);
                }
            }
        });
        Self { port, is_open }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set_open(&self, open: bool) {
        self.is_open.store(open, Ordering::SeqCst);
    }
}

fn forward(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        // However it ends, both ways are over.
        _ = std::io::copy(&mut from, &mut to);
        _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}
