//! What a replay found, as text and as JSON.

use lookout_core::{ClassSet, Outcome, State};
use lookout_publish::payload::reason_name;
use lookout_replay::{Figures, Spell, Truth, words};
use serde::Serialize;

use super::{Frames, ReplayArgs, Run, name_of, story};
use crate::output;

/// The timeline of the first run, and the figures of all side by side.
pub(super) fn text(frames: &Frames, runs: &[Run], figures: &[Figures]) -> anyhow::Result<()> {
    let Some((run, of_run)) = runs.iter().zip(figures).next() else { return Ok(()) };
    for line in story::lines(&run.timeline, of_run.judged.as_ref(), &run.classes) {
        output::line(line)?;
    }
    let damaged = match frames.n_damaged {
        0 => String::new(),
        n => format!("; damaged parts of the recording: {n}"),
    };
    let n = output::count(frames.n, "frame");
    output::line(format!("\n{n}, {} unreadable{damaged}", frames.n_bad))?;
    for (idx, run) in runs.iter().enumerate() {
        output::line(format!(
            "[{idx}] {}: {} evaluated, {} with nothing new, {} too soon for max_fps",
            run.name, run.counts.evaluated, run.counts.gated, run.counts.dropped
        ))?;
    }
    let all: Vec<_> = figures.iter().map(words).collect();
    let heads: String = (0..runs.len()).map(|it| format!("{:>18}", format!("[{it}]"))).collect();
    output::line(format!("{:28}{heads}", ""))?;
    for row in 0..all.first().map_or(0, |it| it.len()) {
        let values: String = all.iter().map(|it| format!("{:>18}", it[row].1)).collect();
        output::line(format!("{:28}{values}", all[0][row].0))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Report<'a> {
    v: u32,
    recording: String,
    camera: &'a str,
    frames: u64,
    /// Of them.
    unreadable: u64,
    /// Parts of the recording that are no frames.
    damaged: u64,
    tolerance_s: f64,
    runs: Vec<RunLine<'a>>,
}

#[derive(Serialize)]
struct RunLine<'a> {
    settings: &'a str,
    evaluated: u64,
    gated: u64,
    dropped: u64,
    figures: FiguresLine,
    timeline: Vec<SpellLine<'a>>,
    changes: Vec<ChangeLine<'a>>,
    true_changes: Vec<TrueChangeLine<'a>>,
}

#[derive(Serialize)]
struct FiguresLine {
    duration_s: f64,
    changes: usize,
    changes_per_hour: Option<f64>,
    label_share: Option<f64>,
    none_share: Option<f64>,
    unknown_share: Option<f64>,
    stale_share: Option<f64>,
    judged: Option<JudgedLine>,
}

#[derive(Serialize)]
struct JudgedLine {
    time_s: f64,
    right_share: f64,
    wrong_label_share: f64,
    true_changes: usize,
    true_changes_per_hour: f64,
    median_delay_s: Option<f64>,
    longest_delay_s: Option<f64>,
    missed: usize,
    false_alarms: usize,
    false_alarms_per_day: f64,
}

#[derive(Serialize)]
struct SpellLine<'a> {
    from_s: f64,
    to_s: f64,
    state: &'static str,
    label: Option<&'a str>,
    score: Option<f64>,
    margin: Option<f64>,
    sigma: Option<f64>,
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct ChangeLine<'a> {
    at_s: f64,
    from: Option<&'a str>,
    to: Option<&'a str>,
    state: &'static str,
    score: Option<f64>,
    margin: Option<f64>,
    sigma: Option<f64>,
    /// Null beyond the changes whose frames are kept.
    frame: Option<&'a str>,
    /// Null where nobody said what is right.
    false_alarm: Option<bool>,
}

#[derive(Serialize)]
struct TrueChangeLine<'a> {
    at_s: f64,
    from: Option<&'a str>,
    to: Option<&'a str>,
    delay_s: Option<f64>,
}

/// One object with everything.
pub(super) fn json(
    args: &ReplayArgs,
    camera: &str,
    frames: &Frames,
    runs: &[Run],
    figures: &[Figures],
) -> anyhow::Result<()> {
    output::json_line(&Report {
        v: 1,
        recording: name_of(&args.recording),
        camera,
        frames: frames.n,
        unreadable: frames.n_bad,
        damaged: frames.n_damaged,
        tolerance_s: args.tolerance,
        runs: runs.iter().zip(figures).map(|(run, figures)| run_line(run, figures)).collect(),
    })
}

fn run_line<'a>(run: &'a Run, figures: &'a Figures) -> RunLine<'a> {
    let classes = &run.classes;
    let spells = run.timeline.spells();
    let spell = |(idx, it): (usize, &Spell)| SpellLine {
        from_s: it.from.as_secs_f64(),
        to_s: spells.get(idx + 1).map_or(run.timeline.end(), |it| it.from).as_secs_f64(),
        state: state_name(it.state),
        label: match it.state {
            State::Label(idx) | State::None(idx) => class_id(idx, classes),
            State::Unknown | State::Stale => None,
        },
        score: it.score,
        margin: it.margin,
        sigma: it.sigma,
        reason: it.reason.map(reason_name),
    };
    let judged = figures.judged.as_ref();
    let change = |(idx, it): (usize, &lookout_replay::Event)| ChangeLine {
        at_s: it.at.as_secs_f64(),
        from: outcome_id(it.from, classes),
        to: outcome_id(it.to, classes),
        state: state_name(run.timeline.state_at(it.at)),
        score: it.score,
        margin: it.margin,
        sigma: it.sigma,
        frame: run.decided_by.get(idx).map(|it| it.frame.name.as_str()),
        false_alarm: judged.map(|it| it.is_false_alarm(idx)),
    };
    let true_change = |it: &lookout_replay::TrueChange| TrueChangeLine {
        at_s: it.at.as_secs_f64(),
        from: truth_id(it.from, classes),
        to: truth_id(it.to, classes),
        delay_s: it.delay.map(|it| it.as_secs_f64()),
    };
    RunLine {
        settings: &run.name,
        evaluated: run.counts.evaluated,
        gated: run.counts.gated,
        dropped: run.counts.dropped,
        figures: figures_line(figures),
        timeline: spells.iter().enumerate().map(spell).collect(),
        changes: run.timeline.events().iter().enumerate().map(change).collect(),
        true_changes: judged.iter().flat_map(|it| &it.true_changes).map(true_change).collect(),
    }
}

fn figures_line(figures: &Figures) -> FiguresLine {
    let shares = figures.shares;
    FiguresLine {
        duration_s: figures.duration.as_secs_f64(),
        changes: figures.n_changes,
        changes_per_hour: figures.changes_per_hour,
        label_share: shares.map(|it| it.label),
        none_share: shares.map(|it| it.none),
        unknown_share: shares.map(|it| it.unknown),
        stale_share: shares.map(|it| it.stale),
        judged: figures.judged.as_ref().map(|it| JudgedLine {
            time_s: it.time.as_secs_f64(),
            right_share: it.right,
            wrong_label_share: it.wrong_label,
            true_changes: it.true_changes.len(),
            true_changes_per_hour: it.true_changes_per_hour,
            median_delay_s: it.median_delay.map(|it| it.as_secs_f64()),
            longest_delay_s: it.longest_delay.map(|it| it.as_secs_f64()),
            missed: it.n_missed,
            false_alarms: it.false_alarms.len(),
            false_alarms_per_day: it.false_alarms_per_day,
        }),
    }
}

fn class_id(idx: usize, classes: &ClassSet) -> Option<&str> {
    classes.classes().get(idx).map(|it| it.id.as_str())
}

fn outcome_id(outcome: Outcome, classes: &ClassSet) -> Option<&str> {
    match outcome {
        Outcome::Class(idx) => class_id(idx, classes),
        Outcome::Unknown => None,
    }
}

fn truth_id(truth: Truth, classes: &ClassSet) -> Option<&str> {
    match truth {
        Truth::Label(idx) => class_id(idx, classes),
        Truth::NoLabel | Truth::Unsaid => None,
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Label(_) => "label",
        State::None(_) => "none",
        State::Unknown => "unknown",
        State::Stale => "stale",
    }
}
