//! The page: what stands in it, and what cannot.

use std::time::Duration;

use lookout_core::{Change, Class, ClassKind, ClassSet, Id, Outcome, Snapshot, State};

use crate::{Counts, DecidedBy, Figures, Page, RunPage, Seen, Side, Timeline, Truth};

fn classes(name: &str) -> ClassSet {
    let class = |id: &str, kind, name: &str| Class {
        id: Id::new(id).unwrap(),
        kind,
        name: name.to_owned(),
        aliases: vec![],
        prompts: vec![],
        enter: None,
    };
    let classes =
        vec![class("a", ClassKind::Label, name), class("b", ClassKind::Negative, "empty")];
    ClassSet::new(vec!["{}".to_owned()], classes).unwrap()
}

/// Alternates every second between the label and nothing; the truth is that there is nothing, then at
/// the end the label for a moment that nobody sees.
fn timeline(n: u64) -> Timeline {
    let mut timeline = Timeline::default();
    timeline.tell(Duration::ZERO, Truth::NoLabel);
    let mut last = Outcome::Unknown;
    for it in 0..n {
        let at = Duration::from_secs(it);
        let (state, to) = match it % 2 {
            0 => (State::Label(0), Outcome::Class(0)),
            _ => (State::None(1), Outcome::Class(1)),
        };
        let snapshot = Snapshot {
            state,
            score: Some(0.5),
            margin: Some(0.25),
            sigma: Some(3.0),
            reason: None,
            since: at,
            last_known: None,
        };
        timeline.decide(at, &snapshot, Some(Change { from: last, to }));
        last = to;
    }
    timeline.tell(Duration::from_secs(n), Truth::Label(0));
    timeline.advance(Duration::from_secs(n + 1));
    timeline
}

fn page(text: &str, n: u64, n_shown: usize) -> String {
    let (classes, timeline) = (classes(text), timeline(n));
    let figures = Figures::of(&timeline, Duration::ZERO);
    let seen = Seen { name: text.to_owned(), jpeg: Some(vec![0xff, 0xd8]) };
    let by = DecidedBy {
        frame: seen.clone(),
        evaluated: Some(text.to_owned()),
        sides: vec![Side { name: "picture", weight: Some(0.5), top: vec![(0, 0.75), (1, 0.25)] }],
        captions: vec![(text.to_owned(), 0.3)],
    };
    let run = RunPage {
        name: text,
        classes: &classes,
        timeline: &timeline,
        figures: &figures,
        counts: Counts::default(),
        decided_by: &vec![by; n_shown],
        first_frames: &[Some(seen)],
    };
    let tolerance = Duration::ZERO;
    Page {
        recording: text,
        camera: "yard",
        n_frames: 3,
        n_unreadable: 1,
        n_damaged: 2,
        tolerance,
        runs: &[run],
    }
    .render()
}

#[test]
fn whatever_comes_from_outside_is_text() {
    let hostile = "\"><script>alert(1)</script>&amp;'\u{0}\u{1b}[31m</title></style>";
    let page = page(hostile, 3, 3);
    assert!(!page.contains("<script") && !page.contains("alert(1)</script"), "{page}");
    assert_eq!(page.matches("</title>").count(), page.matches("<title>").count());
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(!page.contains(|it: char| it.is_control() && it != '\n'), "control characters");
    assert!(page.contains("&amp;amp;"), "escaped, not interpreted");
}

#[test]
fn it_needs_nothing_else() {
    let page = page("a cat", 3, 3);
    for part in ["http://", "https://", "url(", "<link", "<script", "@import"] {
        assert!(!page.contains(part), "{part}");
    }
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,/9g=\"").count(), 4);
    assert!(page.contains("default-src 'none'") && page.contains("prefers-color-scheme: dark"));
}

#[test]
fn false_alarms_and_misses_are_marked_and_linked() {
    let page = page("a cat", 4, 4);
    assert_eq!(page.matches("false alarm</strong>").count(), 2);
    assert_eq!(page.matches("missed</strong>").count(), 1);
    for row in ["r0-e0", "r0-e2", "r0-t0"] {
        assert!(page.contains(&format!("href=\"#{row}\"")), "{row}");
        assert!(page.contains(&format!("<tr id=\"{row}\" class=\"wrong\">")), "{row}");
    }
    assert!(!page.contains("href=\"#r0-e1\""));
}

#[test]
fn a_long_recording_makes_no_long_page() {
    let page = page("a cat", 100_000, 300);
    assert!(page.len() < 1_000_000, "{}", page.len());
    assert!(page.contains("99700 more changes are not listed here."));
    let links: Vec<&str> =
        page.split("href=\"#").skip(1).filter_map(|it| it.split('"').next()).collect();
    assert!(100 < links.len(), "{}", links.len());
    for row in links {
        assert!(page.contains(&format!("<tr id=\"{row}\"")), "{row} leads nowhere");
    }
    assert_eq!(page.matches("<path class=\"false\"").count(), 500, "the others have no link");
}

#[test]
fn a_page_is_known_by_its_beginning() {
    let page = page(&"a name ".repeat(100), 3, 3);
    assert!(Page::is_one(page.as_bytes()));
    assert!(Page::is_one(&page.as_bytes()[..1024]));
    let other = page.replace("lookout replay", "somebody else");
    for other in [other.as_bytes(), &page.as_bytes()[1..], b"<!DOCTYPE html>", b"\xff\xd8", b""] {
        assert!(!Page::is_one(other));
    }
}

#[test]
fn a_tooltip_has_the_times_of_what_it_shows_and_not_of_its_steps() {
    // A step is 3751/1200 s.
    let page = page("a cat", 3750, 0);
    let title = "<title>a cat, right 1:02:30.0 to 1:02:31.0</title>";
    assert!(!page.contains(title), "shorter than half a step");
    assert!(page.contains("<title>no label, right 0:00:00.0 to 1:02:30.0</title>"));
    let page = self::page("a cat", 1250, 0);
    for title in ["right 0:20:50.0 to 0:20:51.0", "shown 0:00:01.0 to 0:00:02.0"] {
        assert!(page.contains(title), "{title}");
    }
}

#[test]
fn a_cosine_below_the_background_is_told_as_below() {
    for (sigma, words) in
        [(4.25, "4.2 sigma above"), (-0.6, "0.6 sigma below"), (-0.04, "0.0 sigma above")]
    {
        assert_eq!(crate::sigma_words(sigma), format!("{words} background"));
    }
    let page = page("a cat", 3, 3);
    assert!(page.contains("mean score 0.50, lead 0.25<br>3.0 sigma above background"), "{page}");
    assert!(page.contains("Evidence of this frame alone") && page.contains("are means over time"));
}

#[test]
fn times_are_rounded_as_text_is_and_one_frame_is_no_plural() {
    for (ms, clock) in [
        (0, "0:00:00.0"),
        (3949, "0:00:03.9"),
        (3951, "0:00:04.0"),
        (59_960, "0:01:00.0"),
        (3_599_999, "1:00:00.0"),
        (36_061_250, "10:01:01.2"),
    ] {
        let at = Duration::from_millis(ms);
        assert_eq!(crate::words::clock(at), clock);
        let seconds: f64 = format!("{:.1}", at.as_secs_f64()).parse().unwrap();
        let parts: Vec<f64> = clock.split(':').map(|it| it.parse().unwrap()).collect();
        assert!((parts[0] * 3600.0 + parts[1] * 60.0 + parts[2] - seconds).abs() < 1e-9);
    }
    let page = page("a cat", 3, 3);
    assert!(page.contains("Camera yard, 3 frames") && page.contains("0 frames evaluated"));
}
