//! `lookout models bench`: what a picture costs on this machine.

use anyhow::{Context, bail};
use cpu_time::ProcessTime;
use lookout_encoder::{Bundle, Golden, ImageTower, Isa, Runtime, preprocess};
use serde::Serialize;

use crate::cli::BenchArgs;
use crate::failure::Failure;
use crate::{assets, engine, memory, output};

/// The figures, each of this process alone.
#[derive(Serialize)]
struct Report {
    run_by: String,
    load_ms: f64,
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

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let report = measure(args)?;
    if args.json {
        return Ok(output::json_line(&report)?);
    }
    let Report { run_by, load_ms, pictures, cpu_ms_min, cpu_ms_median, .. } = &report;
    let mib = |it: Option<u64>| it.map_or("unknown".to_owned(), |it| format!("{it} MiB"));
    output::line(format!(
        "run by   {run_by}\n\
         picture  {cpu_ms_median:.2} ms CPU time (median of {pictures}), {cpu_ms_min:.2} ms at best\n\
         load     {load_ms:.0} ms CPU time\n\
         memory   {} resident, {} at most",
        mib(report.resident_mib),
        mib(report.peak_mib),
    ))?;
    Ok(())
}

fn measure(args: &BenchArgs) -> anyhow::Result<Report> {
    memory::loading();
    let model = assets::model_dir(args.model.as_deref())?;
    let bundle = Bundle::open(&model)?;
    let runtime = match &args.kernels {
        None => Runtime::cpu(),
        Some(name) => match Isa::named(name) {
            Some(isa) => Runtime::cpu_with(isa),
            None => {
                let here: Vec<&str> = Isa::available().map(Isa::name).collect();
                bail!("--kernels must be one of {} on this machine, got {name:?}", here.join(", "));
            }
        },
    };
    let start = ProcessTime::now();
    let mut tower = ImageTower::load_on(&bundle, &runtime, 1)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    memory::steady();

    let golden = Golden::open(&bundle)?;
    let mut inputs = Vec::new();
    for name in golden.picture_names().take(8) {
        let picture = engine::read(&bundle.pictures_dir().join(name))?;
        inputs.push(preprocess(&picture, tower.rule())?);
    }
    let first = inputs.first().context("the bundle has no sample pictures")?;
    tower.encode_values(first)?;
    let mut times = Vec::new();
    for values in inputs.iter().cycle().take(args.pictures as usize) {
        let start = ProcessTime::now();
        tower.encode_values(values)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let checks = golden.check_pictures(&mut tower, inputs.len(), |path| Ok(engine::read(path)?));
    let cosine_min = checks.ok().and_then(|it| it.iter().map(|it| it.cosine).reduce(f64::min));
    Ok(Report {
        run_by: tower.describe(),
        load_ms,
        pictures: times.len(),
        cpu_ms_min: times.first().copied().unwrap_or_default(),
        cpu_ms_median: times.get(times.len() / 2).copied().unwrap_or_default(),
        cosine_min,
        resident_mib: memory::status_mib("VmRSS"),
        peak_mib: memory::status_mib("VmHWM"),
    })
}
