//! The parent's side of the worker: starts it, keeps its newest frame, ends it.

use std::convert::Infallible;
use std::io::{BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvError, Sender, TrySendError, select};
use lookout_core::{Clock, Frame, FrameSource, Picture, PortError, Stop};

use crate::error::BadFrame;
use crate::wire::{RawFrame, ReadError, read_frame};
use crate::worker::{StreamFormat, WorkerArgs};
use crate::{CaptureError, OpenOptions, PictureLimits, decode_picture, yuyv};

/// Cameras tear a frame now and then; this many in a row are a fault.
const MAX_BAD_FRAMES: u32 = 10;
/// How long a killed worker may take to die before it is left to a thread. A process blocked in
/// a driver dies when the driver lets go of it.
const REAP_GRACE: Duration = Duration::from_secs(1);
const MAX_LINE_LEN: usize = 500;
/// Lines of the worker's standard error that are logged in one [`LOG_WINDOW`].
const MAX_LINES: u32 = 10;
const LOG_WINDOW: Duration = Duration::from_secs(60);

/// A device behind a worker process.
pub(crate) struct Device {
    camera: String,
    args: WorkerArgs,
    limits: PictureLimits,
    stall_after: Duration,
    /// Until it was reaped. It keeps the worker's standard input open.
    child: Option<Child>,
    frames: Receiver<Arrival>,
    rubbish: Receiver<io::Error>,
    n_displaced: Arc<AtomicU64>,
    stderr: Stderr,
    n_bad_in_a_row: u32,
    announced: bool,
}

struct Arrival {
    frame: RawFrame,
    at: Duration,
}

/// What is left of the worker's standard error.
struct Stderr {
    last_line: Arc<Mutex<String>>,
    /// Disconnects at its end.
    open: Receiver<Infallible>,
}

impl Device {
    /// `camera` names it in messages.
    pub(crate) fn open(
        camera: String,
        args: &WorkerArgs,
        options: &OpenOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaptureError> {
        let program = &options.worker.program;
        let not_started = |source| CaptureError::WorkerNotStarted {
            camera: camera.clone(),
            program: program.clone(),
            source,
        };
        let mut child = Command::new(program)
            .args(&options.worker.args)
            .arg("--device")
            .arg(&args.device)
            .arg("--size")
            .arg(args.size.to_string())
            .arg("--format")
            .arg(args.format.to_string())
            .arg("--fps")
            .arg(args.fps.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is for this process, which then ends the worker.
            .process_group(0)
            .spawn()
            .map_err(not_started)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());

        let (frames_tx, frames) = crossbeam_channel::bounded(1);
        let (rubbish_tx, rubbish) = crossbeam_channel::bounded(1);
        let (open_tx, open) = crossbeam_channel::bounded(0);
        let mut device = Self {
            camera,
            args: args.clone(),
            limits: options.limits,
            stall_after: options.stall_after,
            child: Some(child),
            frames,
            rubbish,
            n_displaced: Arc::default(),
            stderr: Stderr { last_line: Arc::default(), open },
            n_bad_in_a_row: 0,
            announced: false,
        };

        let reader = FrameReader {
            limits: options.limits,
            clock: Arc::clone(&clock),
            frames: frames_tx,
            displaced: device.frames.clone(),
            n_displaced: Arc::clone(&device.n_displaced),
            rubbish: rubbish_tx,
        };
        let lines = LineReader {
            camera: device.camera.clone(),
            clock,
            last_line: Arc::clone(&device.stderr.last_line),
            window_start: Duration::ZERO,
            n_lines: 0,
        };
        // Both threads end when the worker does.
        let spawned = thread::Builder::new()
            .name("capture-frames".to_owned())
            .spawn(move || {
                if let Some(pipe) = stdout {
                    reader.run(pipe);
                }
            })
            .and_then(|_| {
                thread::Builder::new().name("capture-stderr".to_owned()).spawn(move || {
                    if let Some(pipe) = stderr {
                        lines.run(pipe);
                    }
                    drop(open_tx);
                })
            });
        match spawned {
            Ok(_) => Ok(device),
            Err(source) => {
                device.end();
                let (camera, program) = (device.camera.clone(), options.worker.program.clone());
                Err(CaptureError::WorkerNotStarted { camera, program, source })
            }
        }
    }

    /// Kills the worker, unless it has ended by itself, and waits for its status.
    fn end(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        if let Err(error) = child.kill() {
            tracing::error!(camera = self.camera, %error, "Cannot kill the capture worker.");
        }
        let (status_tx, status) = crossbeam_channel::bounded(1);
        let reap = move || status_tx.send(child.wait());
        if let Err(error) = thread::Builder::new().name("capture-reap".to_owned()).spawn(reap) {
            tracing::error!(camera = self.camera, %error, "Cannot wait for the capture worker.");
            return None;
        }
        match status.recv_timeout(REAP_GRACE) {
            Ok(Ok(status)) => Some(status),
            Ok(Err(error)) => {
                tracing::error!(camera = self.camera, %error, "Cannot wait for the capture worker.");
                None
            }
            Err(_) => {
                tracing::warn!(camera = self.camera, "The killed capture worker is still there.");
                None
            }
        }
    }

    /// Why there are no more frames.
    fn why_ended(&mut self) -> CaptureError {
        let status = self.end();
        let camera = self.camera.clone();
        if let Ok(source) = self.rubbish.try_recv() {
            return CaptureError::Rubbish { camera, source };
        }
        // The last line may still be on its way.
        match self.stderr.open.recv_timeout(REAP_GRACE) {
            Ok(never) => match never {},
            Err(_ended_or_late) => (),
        }
        let status = status.map_or("status unknown".to_owned(), |it| it.to_string());
        let last_line = match lock(&self.stderr.last_line).as_str() {
            "" => "it said nothing".to_owned(),
            line => line.to_owned(),
        };
        CaptureError::WorkerEnded { camera, status, last_line }
    }

    fn decode(&self, raw: &RawFrame) -> Result<Picture, BadFrame> {
        Ok(match raw.format {
            StreamFormat::Mjpeg => decode_picture(&raw.bytes, &self.camera, &self.limits)?,
            StreamFormat::Yuyv => yuyv::decode(raw.width_px, raw.height_px, &raw.bytes)?,
        })
    }

    fn announce(&mut self, raw: &RawFrame) {
        if self.announced {
            return;
        }
        self.announced = true;
        let (wanted, camera) = (self.args.size, &self.camera);
        let (width_px, height_px, format) = (raw.width_px, raw.height_px, raw.format);
        if (width_px, height_px) == (wanted.width_px(), wanted.height_px()) {
            tracing::info!(camera, width_px, height_px, %format, "The camera delivers.");
        } else {
            tracing::warn!(
                camera, width_px, height_px, %format, %wanted,
                "The camera delivers another size than the wanted one."
            );
        }
    }

    fn next(&mut self, stop: &Stop) -> Result<Option<Frame>, CaptureError> {
        let Arrival { frame: raw, at } = select! {
            recv(stop.channel()) -> _ => return Ok(None),
            recv(self.frames) -> arrival => match arrival {
                Ok(arrival) => arrival,
                Err(RecvError) => return Err(self.why_ended()),
            },
            default(self.stall_after) => {
                self.end();
                let (camera, after) = (self.camera.clone(), self.stall_after);
                return Err(CaptureError::Stalled { camera, after });
            }
        };
        self.announce(&raw);
        let source = match self.decode(&raw) {
            Ok(picture) => {
                self.n_bad_in_a_row = 0;
                return Ok(Some(Frame { picture, captured_at: at, name: None }));
            }
            Err(source) => source,
        };
        self.n_bad_in_a_row += 1;
        let (camera, n_frames) = (self.camera.clone(), self.n_bad_in_a_row);
        if n_frames < MAX_BAD_FRAMES {
            Err(CaptureError::BadFrame { camera, source })
        } else {
            self.end();
            Err(CaptureError::OnlyBadFrames { camera, n_frames, source })
        }
    }
}

impl FrameSource for Device {
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<Frame>, PortError> {
        match self.next(stop) {
            // A service manager that stops this process may have signaled the worker as well.
            Err(error) if stop.is_requested() => {
                tracing::debug!(%error, "The camera ended while it was being stopped.");
                Ok(None)
            }
            it => Ok(it?),
        }
    }

    fn n_displaced(&self) -> u64 {
        self.n_displaced.load(Relaxed)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads frames until the pipe ends, so the worker never waits for the consumer.
struct FrameReader {
    limits: PictureLimits,
    clock: Arc<dyn Clock>,
    frames: Sender<Arrival>,
    /// The other end of `frames`, to take out what nobody asked for.
    displaced: Receiver<Arrival>,
    n_displaced: Arc<AtomicU64>,
    rubbish: Sender<io::Error>,
}

impl FrameReader {
    fn run(self, pipe: ChildStdout) {
        let mut pipe = BufReader::with_capacity(1 << 16, pipe);
        loop {
            match read_frame(&mut pipe, &self.limits) {
                Ok(frame) => self.put(Arrival { frame, at: self.clock.monotonic() }),
                Err(ReadError::Ended) => return,
                Err(ReadError::Rubbish(error)) => {
                    if let Err(unsent) = self.rubbish.send(error) {
                        tracing::debug!(%unsent, "Nobody asks why the camera ended.");
                    }
                    return;
                }
            }
        }
    }

    /// Replaces the frame that waits.
    fn put(&self, mut arrival: Arrival) {
        while let Err(TrySendError::Full(it)) = self.frames.try_send(arrival) {
            if self.displaced.try_recv().is_ok() {
                self.n_displaced.fetch_add(1, Relaxed);
            }
            arrival = it;
        }
    }
}

/// Logs the worker's standard error, line by line and not too much of it.
struct LineReader {
    camera: String,
    clock: Arc<dyn Clock>,
    last_line: Arc<Mutex<String>>,
    window_start: Duration,
    n_lines: u32,
}

impl LineReader {
    fn run(mut self, mut pipe: ChildStderr) {
        let mut line = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let n_read = match pipe.read(&mut chunk) {
                Ok(n_read) => n_read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            for &byte in &chunk[..n_read] {
                match byte {
                    b'\n' => self.take(&mut line),
                    _ if line.len() < MAX_LINE_LEN => line.push(byte),
                    _ => (),
                }
            }
            if n_read == 0 {
                self.take(&mut line);
                return;
            }
        }
    }

    fn take(&mut self, line: &mut Vec<u8>) {
        let text: String =
            String::from_utf8_lossy(line).chars().filter(|it| !it.is_control()).collect();
        line.clear();
        if text.trim().is_empty() {
            return;
        }
        let now = self.clock.monotonic();
        if LOG_WINDOW <= now.saturating_sub(self.window_start) {
            self.window_start = now;
            self.n_lines = 0;
        }
        self.n_lines = self.n_lines.saturating_add(1);
        if self.n_lines <= MAX_LINES {
            tracing::warn!(camera = self.camera, "Capture worker: {text}");
        } else if self.n_lines == MAX_LINES + 1 {
            tracing::warn!(camera = self.camera, "Capture worker: more lines, not logged.");
        }
        *lock(&self.last_line) = text;
    }
}

fn lock(line: &Mutex<String>) -> MutexGuard<'_, String> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::str::FromStr;
    use std::{fs, iter};

    use lookout_core::{Disposition, Stopper, stop_pair};

    use super::*;
    use crate::fake_clock::FakeClock;
    use crate::wire::write_frame;
    use crate::{CameraUri, WorkerCommand, open};

    const SOON: Duration = Duration::from_millis(300);
    const NEVER: Duration = Duration::from_secs(3600);

    /// A camera whose worker is a shell script. Beside the script lie the files `1` to `5`, gray
    /// frames of 16x16 pixels, each brighter than the one before, and `bad`, an MJPEG frame that
    /// is no JPEG.
    struct Camera {
        folder: tempfile::TempDir,
        source: Box<dyn FrameSource>,
        stopper: Option<Stopper>,
        stop: Stop,
    }

    impl Camera {
        fn new(script: &str, stall_after: Duration) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for n in 1..=5 {
                let bytes: Vec<u8> = iter::repeat_n([luma(n), 128], 256).flatten().collect();
                let mut file = fs::File::create(folder.path().join(n.to_string())).unwrap();
                write_frame(&mut file, StreamFormat::Yuyv, 16, 16, &bytes).unwrap();
            }
            let mut bad = fs::File::create(folder.path().join("bad")).unwrap();
            write_frame(&mut bad, StreamFormat::Mjpeg, 16, 16, b"no JPEG").unwrap();
            let script = format!("cd '{}' || exit 9; {script}", folder.path().display());
            let args = ["-c", &script, "worker"].map(Into::into).to_vec();
            let source = open_with("/bin/sh", args, stall_after).unwrap();
            let (stopper, stop) = stop_pair();
            Self { folder, source, stopper: Some(stopper), stop }
        }

        /// The number of the next frame.
        fn next(&mut self) -> Result<Option<u8>, PortError> {
            let frame = self.source.next_frame(&self.stop)?;
            Ok(frame
                .map(|it| {
                    assert_eq!((it.picture.width_px(), it.picture.height_px()), (16, 16));
                    let gray = f64::from(it.picture.rgb()[0]);
                    (1..=5)
                        .find(|n| (gray - (f64::from(luma(*n)) - 16.0) * 255.0 / 219.0).abs() < 1.0)
                })
                .map(|it| it.expect("gray should be that of a frame")))
        }

        fn error(&mut self) -> (Disposition, String) {
            let error = self.next().unwrap_err();
            (error.disposition, error.to_string())
        }

        fn wait_displaced(&self, n: u64) {
            wait_for("the last frame", || (self.source.n_displaced() == n).then_some(()));
        }

        /// The process that wrote its id to the file `pid`.
        fn process(&self) -> PathBuf {
            let pid = || {
                let text = fs::read_to_string(self.folder.path().join("pid")).ok()?;
                text.ends_with('\n').then(|| text.trim().to_owned())
            };
            Path::new("/proc").join(wait_for("pid", pid))
        }
    }

    fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
        let (_stopper, stop) = stop_pair();
        for _ in 0..2000 {
            if let Some(it) = ready() {
                return it;
            }
            stop.wait_timeout(Duration::from_millis(5));
        }
        panic!("{what} should come within 10 seconds");
    }

    fn luma(n: u8) -> u8 {
        30 * n
    }

    fn open_with(
        program: &str,
        args: Vec<std::ffi::OsString>,
        stall_after: Duration,
    ) -> Result<Box<dyn FrameSource>, CaptureError> {
        let options = OpenOptions {
            base: PathBuf::new(),
            worker: WorkerCommand { program: PathBuf::from(program), args },
            stall_after,
            limits: PictureLimits::default(),
        };
        let uri = CameraUri::from_str("v4l2:///dev/video7").unwrap();
        open(&uri, &options, Arc::new(FakeClock::default()))
    }

    #[test]
    fn a_frame_is_delivered_and_the_worker_told_what_to_do() {
        let mut camera = Camera::new("echo \"$@\" > args; cat 3; exec sleep 600", NEVER);
        assert_eq!(camera.next().unwrap(), Some(3));
        let args = fs::read_to_string(camera.folder.path().join("args")).unwrap();
        assert_eq!(args, "--device /dev/video7 --size 640x480 --format yuyv --fps 5\n");
        assert_eq!(camera.source.n_displaced(), 0);
    }

    #[test]
    fn motion_jpeg_comes_without_huffman_tables() {
        let gray = image::RgbImage::from_pixel(16, 16, image::Rgb([90; 3]));
        let mut jpeg = std::io::Cursor::new(Vec::new());
        gray.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
        let jpeg = jpeg.into_inner();
        // All segments but those of marker DHT, as USB cameras send it.
        let (mut without, mut rest) = (jpeg[..2].to_vec(), &jpeg[2..]);
        while let [0xFF, marker, high, low, ..] = *rest {
            let n = match marker {
                0xDA => rest.len(),
                _ => 2 + usize::from(u16::from_be_bytes([high, low])),
            };
            if marker != 0xC4 {
                without.extend_from_slice(&rest[..n]);
            }
            rest = &rest[n..];
        }
        assert!(without.len() < jpeg.len());
        let mut camera = Camera::new("until [ -e jpeg ]; do sleep 0.01; done; cat jpeg", NEVER);
        let folder = camera.folder.path();
        let mut file = fs::File::create(folder.join("unfinished")).unwrap();
        write_frame(&mut file, StreamFormat::Mjpeg, 16, 16, &without).unwrap();
        fs::rename(folder.join("unfinished"), folder.join("jpeg")).unwrap();
        let frame = camera.source.next_frame(&camera.stop).unwrap().unwrap();
        assert!(frame.picture.rgb().iter().all(|it| it.abs_diff(90) < 3));
        camera.stopper.take();
    }

    #[test]
    fn a_slow_consumer_gets_the_newest_frame() {
        let mut camera = Camera::new("cat 1 2 3 4 5; exec sleep 600", NEVER);
        camera.wait_displaced(4);
        assert_eq!(camera.next().unwrap(), Some(5));
    }

    #[test]
    fn a_silent_worker_has_stalled_and_is_killed() {
        let mut camera = Camera::new("echo $$ > pid; exec sleep 600", SOON);
        let process = camera.process();
        let (disposition, message) = camera.error();
        assert_eq!(disposition, Disposition::Stalled);
        assert_eq!(message, "v4l2:///dev/video7: no frame for 300ms");
        wait_for("its end", || (!process.exists()).then_some(()));
    }

    #[test]
    fn a_worker_that_falls_silent_has_stalled() {
        // The last frame is begun and never finished.
        let mut camera = Camera::new("cat 1 2; head -c 100 3; exec sleep 600", SOON);
        camera.wait_displaced(1);
        assert_eq!(camera.next().unwrap(), Some(2));
        assert_eq!(camera.error().0, Disposition::Stalled);
    }

    #[test]
    fn a_crash_is_told_in_the_worker_s_words() {
        let script = "echo starting >&2; printf 'no such\\033[1m device' >&2; exit 3";
        let mut camera = Camera::new(script, NEVER);
        let expected =
            "v4l2:///dev/video7: the capture worker ended (exit status: 3): no such[1m device";
        assert_eq!(camera.error(), (Disposition::Reopen, expected.to_owned()));
        assert_eq!(camera.error().0, Disposition::Reopen);
    }

    #[test]
    fn a_worker_that_dies_within_a_frame_has_ended() {
        let mut camera = Camera::new("head -c 100 1; kill -SEGV $$", NEVER);
        let (disposition, message) = camera.error();
        assert_eq!(disposition, Disposition::Reopen);
        assert!(message.contains("(signal: 11 (SIGSEGV)"), "{message}");
    }

    #[test]
    fn rubbish_is_refused() {
        let cases = [
            ("echo Hello, I am a camera.", "must begin with `LKF1`, got `Hell`"),
            ("cat 1 | tail -c +2", "must begin with `LKF1`, got `KF1"),
            ("head -c 16 bad; printf '\\377\\377\\377\\377'", "bytes, got 4294967295"),
        ];
        for (script, part) in cases {
            let mut camera = Camera::new(&format!("{script}; exec sleep 600"), NEVER);
            let (disposition, message) = camera.error();
            assert_eq!(disposition, Disposition::Reopen, "{message}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn bad_frames_are_skipped_until_there_are_too_many() {
        // A frame at a time, so that none displaces another.
        let next = "while ! [ -e go ]; do sleep 0.01; done; rm go";
        let frames = "bad bad 1 bad bad bad bad bad bad bad bad bad bad bad";
        let script = format!("for it in {frames}; do {next}; cat $it; done; exec sleep 600");
        let mut camera = Camera::new(&script, NEVER);
        let go = camera.folder.path().join("go");
        let mut seen = Vec::new();
        while seen.last() != Some(&"Reopen".to_owned()) && seen.len() < 20 {
            fs::write(&go, []).unwrap();
            seen.push(match camera.next() {
                Ok(_) => "frame".to_owned(),
                Err(error) => format!("{:?}", error.disposition),
            });
        }
        let skips = |n| iter::repeat_n("SkipFrame", n);
        let expected: Vec<&str> =
            skips(2).chain(["frame"]).chain(skips(9)).chain(["Reopen"]).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_worker_ends_with_its_source() {
        let camera = Camera::new("echo $$ > pid; cat 1; exec sleep 600", NEVER);
        let process = camera.process();
        assert!(process.exists());
        drop(camera.source);
        wait_for("its end", || (!process.exists()).then_some(()));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let mut camera = Camera::new("exec sleep 600", NEVER);
        camera.stopper.take();
        assert_eq!(camera.next().unwrap(), None);
    }

    #[test]
    fn a_flood_of_errors_takes_no_memory() {
        let script = "head -c 20000000 /dev/zero | tr '\\0' 'x' >&2; exit 1";
        let mut camera = Camera::new(script, NEVER);
        let (_, message) = camera.error();
        assert!(message.len() < MAX_LINE_LEN + 100 && message.ends_with("xxx"), "{message}");
    }

    #[test]
    fn a_worker_that_is_not_there_is_named() {
        let error = open_with("/no/such/program", vec![], NEVER).err().unwrap();
        assert_eq!(error.disposition(), Disposition::Reopen);
        assert_eq!(
            error.to_string(),
            "v4l2:///dev/video7: cannot start the capture worker `/no/such/program`"
        );
    }
}
