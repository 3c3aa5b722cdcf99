//! What the page says of one run: its strip, its changes and why each came.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lookout_core::{ClassKind, ClassSet};
use maud::{Markup, html};

use crate::strip::{Rows, hue, strip};
use crate::words::{class_name, clean, clock, frames, outcome_words, sigma_words, truth_words};
use crate::{Counts, DecidedBy, Judged, RunPage, Seen, TrueChange};

pub(crate) fn section(run: &RunPage<'_>, idx: usize) -> Markup {
    let id = format!("r{idx}");
    let judged = run.figures.judged.as_ref();
    let Counts { evaluated, gated, dropped } = run.counts;
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (clean(run.name)) }
            p {
                (frames(evaluated)) " evaluated, " (gated) " that showed nothing new, " (dropped)
                " that came too soon for max_fps."
            }
            (strip(run.timeline, judged, run.classes, &Rows {
                id: &id,
                n_events: run.decided_by.len(),
                n_true_changes: run.first_frames.len(),
            }))
            (legend(run.classes, judged.is_some()))
            (events(run, &id))
            @if let Some(judged) = judged { (true_changes(run, judged, &id)) }
        }
    }
}

fn legend(classes: &ClassSet, has_truth: bool) -> Markup {
    html! {
        p.legend {
            @if has_truth { "Above what was shown, below what was right. " }
            @for (idx, class) in classes.classes().iter().enumerate()
                .filter(|it| it.1.kind == ClassKind::Label) {
                span.key.label style=(hue(idx)) {} (clean(&class.name)) " "
            }
            span.key.none {} "none " span.key.unknown {} "unknown " span.key.stale {} "stale"
            @if has_truth { " " span.key.unsaid {} "nobody said" }
        }
    }
}

fn events(run: &RunPage<'_>, id: &str) -> Markup {
    let events = run.timeline.events();
    let is_false =
        |idx: usize| run.figures.judged.as_ref().is_some_and(|it| it.is_false_alarm(idx));
    html! {
        table {
            caption { "Changes announced" }
            thead {
                tr {
                    @for it in ["Time", "Change", "Frame", "Evidence of this frame alone"] {
                        th scope="col" { (it) }
                    }
                }
            }
            tbody {
                @for (idx, (event, by)) in events.iter().zip(run.decided_by).enumerate() {
                    tr id={ (id) "-e" (idx) } class=[is_false(idx).then_some("wrong")] {
                        td { (clock(event.at)) }
                        td {
                            (outcome_words(event.from, run.classes)) " → "
                            strong { (outcome_words(event.to, run.classes)) }
                            @if let Some(it) = event.score { br; "mean score " (format!("{it:.2}")) }
                            @if let Some(it) = event.margin { ", lead " (format!("{it:.2}")) }
                            @if let Some(it) = event.sigma { br; (sigma_words(it)) }
                            @if is_false(idx) { br; strong.mark { "false alarm" } }
                        }
                        td { (seen(&by.frame)) }
                        td { (evidence(by, run.classes)) }
                    }
                }
            }
        }
        @if run.decided_by.len() < events.len() {
            p { (events.len() - run.decided_by.len()) " more changes are not listed here." }
        }
    }
}

fn true_changes(run: &RunPage<'_>, judged: &Judged, id: &str) -> Markup {
    let shown = judged.true_changes.iter().zip(run.first_frames);
    html! {
        table {
            caption { "What changed in truth" }
            thead {
                tr { @for it in ["Time", "Change", "Met", "First frame"] { th scope="col" { (it) } } }
            }
            tbody {
                @for (idx, (it, frame)) in shown.enumerate() {
                    tr id={ (id) "-t" (idx) } class=[it.delay.is_none().then_some("wrong")] {
                        td { (clock(it.at)) }
                        td {
                            (truth_words(it.from, run.classes)) " → "
                            strong { (truth_words(it.to, run.classes)) }
                        }
                        td { (met(it)) }
                        td { @if let Some(it) = frame { (seen(it)) } }
                    }
                }
            }
        }
        @if run.first_frames.len() < judged.true_changes.len() {
            p { (judged.true_changes.len() - run.first_frames.len()) " more are not listed here." }
        }
    }
}

fn met(it: &TrueChange) -> Markup {
    html! {
        @match it.delay {
            Some(delay) => { "after " (format!("{:.1}", delay.as_secs_f64())) " s" }
            None => {
                strong.mark { "missed" }
                " in " (format!("{:.1}", it.until.saturating_sub(it.at).as_secs_f64())) " s"
            }
        }
    }
}

fn seen(frame: &Seen) -> Markup {
    let name = clean(&frame.name);
    html! {
        @if let Some(jpeg) = &frame.jpeg {
            img src={ "data:image/jpeg;base64," (BASE64_STANDARD.encode(jpeg)) } alt={ "Frame " (name) };
            br;
        }
        span.name { (name) }
    }
}

fn evidence(by: &DecidedBy, classes: &ClassSet) -> Markup {
    html! {
        @if let Some(it) = &by.evaluated { p { "Nothing new since " (clean(it)) "." } }
        dl {
            @for side in &by.sides {
                dt {
                    (side.name)
                    @if let Some(it) = side.weight { ", weight " (format!("{it:.2}")) }
                }
                dd {
                    @for (n, (class, score)) in side.top.iter().enumerate() {
                        @if 0 < n { ", " }
                        (class_name(*class, classes)) " " (format!("{score:.2}"))
                    }
                }
            }
        }
        @if !by.captions.is_empty() {
            ul { @for (text, similarity) in &by.captions {
                li { (format!("{similarity:.2}")) " " (clean(text)) }
            } }
        }
    }
}
