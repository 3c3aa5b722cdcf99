//! `lookout eval`: how good labels are on pictures whose classes are known, for each way to make them.

mod args;
mod confusions;
mod embedded;
mod halves;
mod pictures;
mod report;
mod stream;
mod variants;

pub(crate) use args::EvalArgs;

use crate::failure::Failure;
use report::{Report, SetReport};

pub(crate) fn run(args: &EvalArgs) -> Result<(), Failure> {
    args.check()?;
    let sets: Vec<SetReport> = match &args.pictures {
        Some(source) => vec![pictures::evaluate(args, source)?],
        None => embedded::evaluate(args)?,
    };
    let report = Report::new(args.seed, sets);
    report.print(args.json)?;
    if report.is_complete() { Ok(()) } else { Err(Failure::Partial) }
}
