//! Opens a camera and says what it delivers: `camera URI [N_FRAMES]`. Its own capture worker.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]
#![expect(clippy::disallowed_methods, reason = "there is no other clock here")]

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lookout_capture::{
    CameraUri, OpenOptions, PictureLimits, WorkerArgs, WorkerCommand, open, run_worker,
};
use lookout_core::{Clock, Disposition, PortError, Stop, stop_pair};

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Option<Duration> {
        None
    }

    fn wait(&self, stop: &Stop, timeout: Duration) -> bool {
        stop.wait_timeout(timeout)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("camera: {}", PortError::new(Disposition::Fatal, error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_ansi(false).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [
            "capture-worker",
            "--device",
            device,
            "--size",
            size,
            "--format",
            format,
            "--fps",
            fps,
        ] => Ok(run_worker(&WorkerArgs {
            device: PathBuf::from(device),
            size: size.parse()?,
            format: format.parse()?,
            fps: fps.parse()?,
        })?),
        [uri] => show(&uri.parse()?, 10),
        [uri, n_frames] => show(&uri.parse()?, n_frames.parse()?),
        _ => Err("usage: camera URI [N_FRAMES]".into()),
    }
}

fn show(uri: &CameraUri, n_frames: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
    let options = OpenOptions {
        base: std::env::current_dir()?,
        worker: WorkerCommand {
            program: std::env::current_exe()?,
            args: vec![OsString::from("capture-worker")],
        },
        stall_after: Duration::from_secs(10),
        limits: PictureLimits::default(),
    };
    let mut source = open(uri, &options, Arc::new(SystemClock(Instant::now())))?;
    let (_stopper, stop) = stop_pair();
    for n in 1..=n_frames {
        let frame = match source.next_frame(&stop) {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) if error.disposition == Disposition::SkipFrame => {
                println!("skipped: {error}");
                continue;
            }
            Err(error) => return Err(format!("{:?}: {error}", error.disposition).into()),
        };
        let rgb = frame.picture.rgb();
        let mean = rgb.iter().map(|it| f64::from(*it)).sum::<f64>() / rgb.len() as f64;
        println!(
            "frame {n} at {:.3} s: {:?}, mean {mean:.1}, brightest {}, {} displaced {}",
            frame.captured_at.as_secs_f64(),
            frame.picture,
            rgb.iter().max().unwrap_or(&0),
            source.n_displaced(),
            frame.name.unwrap_or_default()
        );
    }
    Ok(())
}
