//! `lookout models bench`: what a picture costs on this machine.

use std::io::{self, BufRead, Read};

use anyhow::{Context, bail};
use cpu_time::ProcessTime;
use lookout_core::Clock;
use lookout_encoder::{Bundle, EncoderError, Golden, ImageTower, Isa, Runtime, preprocess};
use serde::Serialize;

use crate::cli::BenchArgs;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::{assets, engine, memory, output};

/// The figures, each of this process alone.
#[derive(Serialize)]
struct Report {
    run_by: String,
    /// CPU time of loading the tower, and how long it took.
    load_ms: f64,
    load_wall_ms: f64,
    pictures: usize,
    /// CPU time of one picture, encoder only.
    cpu_ms_min: f64,
    cpu_ms_median: f64,
    /// Least cosine to the golden embeddings of the pictures that were run.
    cosine_min: Option<f64>,
    /// Memory at the end, and the most that there was, in MiB; null where the system does not say.
    resident_mib: Option<u64>,
    peak_mib: Option<u64>,
}

/// The answer to one line of standard input.
#[derive(Serialize)]
struct Round {
    /// CPU time of each picture, encoder only.
    cpu_ms: Vec<f64>,
}

/// The longest line of standard input that can be a number of pictures.
const MAX_LINE: u64 = 64;
/// Pictures of one round at most.
const MAX_ROUND: u32 = 100_000;

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let mut subject = Subject::load(args)?;
    if args.paced {
        subject.paced()?;
    } else {
        subject.pictures(args.pictures)?;
    }
    let (report, wrong) = subject.report()?;
    if args.json || args.paced {
        output::json_line(&report)?;
    } else {
        tell(&report)?;
    }
    match wrong {
        None => Ok(()),
        Some(error) => {
            output::complain(&format!("what was measured is no use: {error}"));
            Err(Failure::Partial)
        }
    }
}

fn tell(report: &Report) -> anyhow::Result<()> {
    let Report { run_by, load_ms, load_wall_ms, pictures, cpu_ms_min, cpu_ms_median, .. } = report;
    let mib = |it: Option<u64>| it.map_or("unknown".to_owned(), |it| format!("{it} MiB"));
    output::line(format!(
        "run by   {run_by}\n\
         picture  {cpu_ms_median:.2} ms CPU time (median of {pictures}), {cpu_ms_min:.2} ms at best\n\
         load     {load_ms:.0} ms CPU time, {load_wall_ms:.0} ms in all\n\
         memory   {} resident, {} at most",
        mib(report.resident_mib),
        mib(report.peak_mib),
    ))
}

/// A loaded tower, its pictures, and what was measured so far.
struct Subject {
    tower: ImageTower,
    golden: Golden,
    inputs: Vec<Vec<f32>>,
    load_ms: f64,
    load_wall_ms: f64,
    times_ms: Vec<f64>,
}

impl Subject {
    fn load(args: &BenchArgs) -> anyhow::Result<Self> {
        memory::loading();
        let model = assets::model_dir(args.model.as_deref())?;
        let bundle = Bundle::open(&model)?;
        let runtime = match &args.kernels {
            None => Runtime::cpu(),
            Some(name) => match Isa::named(name) {
                Some(isa) => Runtime::cpu_with(isa),
                None => {
                    let here: Vec<&str> = Isa::available().map(Isa::name).collect();
                    let here = here.join(", ");
                    bail!("--kernels must be one of {here} on this machine, got {name:?}");
                }
            },
        };
        let (start, clock) = (ProcessTime::now(), SystemClock::start());
        let mut tower = ImageTower::load_on(&bundle, &runtime, 1)?;
        let load_ms = start.elapsed().as_secs_f64() * 1e3;
        let load_wall_ms = clock.monotonic().as_secs_f64() * 1e3;
        memory::steady();

        let golden = Golden::open(&bundle)?;
        let mut inputs = Vec::new();
        for name in golden.picture_names().take(8) {
            let picture = engine::read(&bundle.pictures_dir().join(name))?;
            inputs.push(preprocess(&picture, tower.rule())?);
        }
        let first = inputs.first().context("the bundle has no sample pictures")?;
        tower.encode_values(first)?;
        Ok(Self { tower, golden, inputs, load_ms, load_wall_ms, times_ms: Vec::new() })
    }

    /// Runs `n` pictures; gives their CPU times.
    fn pictures(&mut self, n: u32) -> anyhow::Result<Vec<f64>> {
        let mut times_ms = Vec::new();
        for values in self.inputs.iter().cycle().take(n as usize) {
            let start = ProcessTime::now();
            self.tower.encode_values(values)?;
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        self.times_ms.extend(&times_ms);
        Ok(times_ms)
    }

    /// Runs as many pictures as each line of standard input says, until it ends. An empty answer
    /// comes first: the tower is loaded.
    fn paced(&mut self) -> anyhow::Result<()> {
        output::json_line(&Round { cpu_ms: Vec::new() })?;
        let mut stdin = io::stdin().lock();
        loop {
            let mut line = String::new();
            // Longer than any number; the rest of a line is another one, and no number.
            let n_bytes = stdin.by_ref().take(MAX_LINE).read_line(&mut line);
            if n_bytes.context("standard input broke off")? == 0 {
                return Ok(());
            }
            let n = line.trim().parse().ok().filter(|it| (1..=MAX_ROUND).contains(it));
            let n = n.with_context(|| {
                format!("a line must be a number of pictures, 1 to {MAX_ROUND}, got {line:?}")
            })?;
            let cpu_ms = self.pictures(n)?;
            output::json_line(&Round { cpu_ms })?;
        }
    }

    /// The report, and what is wrong with the embeddings if anything is.
    fn report(mut self) -> anyhow::Result<(Report, Option<EncoderError>)> {
        let (resident_mib, peak_mib) = (memory::status_mib("VmRSS"), memory::status_mib("VmHWM"));
        let n = self.inputs.len();
        let checks =
            self.golden.check_pictures(&mut self.tower, n, |path| Ok(engine::read(path)?))?;
        let times = &mut self.times_ms;
        times.sort_by(f64::total_cmp);
        let report = Report {
            run_by: self.tower.describe(),
            load_ms: self.load_ms,
            load_wall_ms: self.load_wall_ms,
            pictures: times.len(),
            cpu_ms_min: times.first().copied().unwrap_or_default(),
            cpu_ms_median: times.get(times.len() / 2).copied().unwrap_or_default(),
            cosine_min: checks.iter().map(|it| it.cosine).reduce(f64::min),
            resident_mib,
            peak_mib,
        };
        Ok((report, checks.into_iter().find_map(|it| it.ensure().err())))
    }
}
