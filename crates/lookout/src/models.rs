//! `lookout models verify`: are the files those of the bundle, and does this machine compute what
//! another runtime computed?

use std::path::Path;

use lookout_core::Device;
use lookout_encoder::{Bundle, EncoderError, Golden, ImageTower, SampleCheck, TextTower};
use serde::Serialize;

use crate::cli::VerifyArgs;
use crate::failure::Failure;
use crate::{assets, engine, output};

#[derive(Serialize)]
struct Line<'a> {
    sample: &'a str,
    cosine: f64,
    min_cosine: f64,
    passed: bool,
}

pub(crate) fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let model = assets::model_dir(args.model.as_deref())?;
    let (bundle, runs_on, checks) =
        checks(&model, args.device.device).map_err(anyhow::Error::from)?;
    let n_failed = checks.iter().filter(|it| !it.passed()).count();
    for check in &checks {
        let SampleCheck { sample, cosine, min_cosine, .. } = check;
        let (cosine, min_cosine, passed) = (*cosine, *min_cosine, check.passed());
        if args.json {
            output::json_line(&Line { sample, cosine, min_cosine, passed })?;
        } else if !passed {
            output::line(format!("{sample}: cosine {cosine:.6}, must be at least {min_cosine}"))?;
        }
    }
    if !args.json {
        let lowest = checks.iter().map(|it| it.cosine).fold(f64::INFINITY, f64::min);
        output::line(format!(
            "{}: files as recorded; {} of {} golden embeddings agree, lowest cosine {lowest:.6}",
            bundle.dir().display(),
            checks.len() - n_failed,
            checks.len(),
        ))?;
        output::line(format!(
            "run by   {runs_on}\nfrom     {}\nlicense  {}",
            bundle.origin(),
            bundle.license()
        ))?;
    }
    if n_failed == 0 {
        return Ok(());
    }
    if let Some(Err(error)) = checks.into_iter().map(SampleCheck::ensure).find(Result::is_err) {
        output::complain(&format!("do not use the model's labels: {error}"));
    }
    Err(Failure::Partial)
}

fn checks(
    model: &Path,
    device: Device,
) -> Result<(Bundle, String, Vec<SampleCheck>), EncoderError> {
    let runtime = engine::open(device)?;
    let bundle = Bundle::open(model)?;
    bundle.verify_files()?;
    let golden = Golden::open(&bundle)?;
    let mut tower = ImageTower::load_on(&bundle, &runtime, 1)?;
    let mut checks =
        golden.check_pictures(&mut tower, usize::MAX, |path| Ok(engine::read(path)?))?;
    let runs_on = tower.describe();
    drop(tower);
    let mut tower = TextTower::load_on(&bundle, &runtime, runtime.batch())?;
    checks.extend(golden.check_texts(&mut tower, usize::MAX)?);
    Ok((bundle, runs_on, checks))
}
