//! The `lookout` program: verbs, exit codes, logging.

mod assets;
mod bank;
mod bench;
mod calibrate;
mod calibration;
mod classify;
mod cli;
mod clock;
mod daemon;
mod demo;
mod embed;
mod engine;
mod eval;
mod failure;
mod get;
mod import;
mod index;
mod labels;
mod memory;
mod models;
mod names;
mod node;
mod output;
mod packs;
mod phrases;
mod plan;
mod recorded;
mod reload;
mod replay;
mod said;
mod service;
mod suggest;
mod teach;
mod views;
mod whole;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::cli::{Cli, IndexVerb, LabelsVerb, ModelsVerb, Verb};
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_help =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if let Err(error) = error.print() {
                tracing::debug!(%error, "Cannot print.");
            }
            return if is_help { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    memory::loading();
    std::panic::set_hook(Box::new(log_panic));
    if let Err(failure) = start_logging(&cli.verb).and_then(|()| run(&cli.verb)) {
        if let Failure::Other(error) = &failure
            && output::is_broken_pipe(error)
        {
            return ExitCode::SUCCESS;
        }
        failure.report();
        return failure.exit_code();
    }
    ExitCode::SUCCESS
}

/// One line for a panic. What it means is told by whoever catches it: a decoder that gives up on
/// a picture is that picture's error.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let first_line = message.lines().next().unwrap_or_default();
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::warn!(location, "Caught a panic: {first_line}");
}

fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Demo(args) => demo::run(args),
        Verb::Run(args) => daemon::run(args),
        Verb::Check(args) => plan::check(args),
        Verb::Calibrate(args) => calibrate::run(args),
        Verb::Classify(args) => classify::run(args),
        Verb::Teach(args) => teach::run(args),
        Verb::Replay(args) => replay::run(args),
        Verb::Eval(args) => eval::run(args),
        Verb::Embed(args) => embed::run(args),
        Verb::Index(IndexVerb::Build(args)) => index::build(args),
        Verb::Index(IndexVerb::Info(args)) => index::info(args),
        Verb::Index(IndexVerb::Search(args)) => index::search(args),
        Verb::Models(ModelsVerb::Verify(args)) => models::verify(args),
        Verb::Models(ModelsVerb::Get(args)) => get::run(args),
        Verb::Models(ModelsVerb::Import(args)) => import::run(args),
        Verb::Models(ModelsVerb::Bench(args)) => bench::run(args),
        Verb::Labels(LabelsVerb::Tune(args)) => labels::tune(args),
        Verb::Labels(LabelsVerb::Show(args)) => labels::show(args),
        Verb::Suggest(args) => suggest::run(args),
        Verb::CaptureWorker(args) => service::capture_worker(args),
    }
}

/// Logs to standard error, where a service manager collects it.
fn start_logging(verb: &Verb) -> Result<(), Failure> {
    const VARIABLE: &str = "LOOKOUT_LOG";
    let default = match verb {
        Verb::Run(_) | Verb::Demo(_) => "info".to_owned(),
        // Of what takes long before their own progress is told.
        Verb::Replay(_) | Verb::Calibrate(_) => format!("warn,{}=info", engine::TEXTS_LOG),
        _ => "warn".to_owned(),
    };
    #[expect(clippy::disallowed_methods, reason = "logging starts before any configuration")]
    let level = match std::env::var(VARIABLE) {
        Ok(level) => level,
        Err(std::env::VarError::NotPresent) => default,
        Err(error) => return Err(Failure::Config(vec![format!("{VARIABLE}: {error}")])),
    };
    let filter = EnvFilter::try_new(&level).map_err(|error| {
        Failure::Config(vec![format!(
            "environment variable {VARIABLE} must be error, warn, info, debug or trace, or a \
             list of crate=level, got {level:?}: {error}"
        )])
    })?;
    // At trace level the HTTP client logs what it sends byte by byte, an access token included.
    let dump = "ureq_proto::util=off".parse::<Directive>().map_err(anyhow::Error::from)?;
    let filter = filter.add_directive(dump);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        // A log that cannot be written is lost; telling so on standard error would panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // The journal stamps each line itself.
    #[expect(clippy::disallowed_methods, reason = "set by the service manager, not a setting")]
    if std::env::var("JOURNAL_STREAM").is_ok() {
        builder.without_time().init();
    } else {
        builder.init();
    }
    Ok(())
}
