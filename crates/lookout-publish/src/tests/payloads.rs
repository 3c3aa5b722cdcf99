//! The payloads as a consumer sees them.

use expect_test::{Expect, expect};
use lookout_core::{CameraStatus, Change, Outcome, Snapshot, State};
use serde::Serialize;

use super::*;
use crate::PublishError;
use crate::payload::{
    EventPayload, EvidenceMessage, EvidencePayload, InfoPayload, Origin, PictureLine, StatePayload,
    camera_status,
};

fn origin() -> Origin<'static> {
    Origin { boot_id: "00ff", seq: 7, at: stamp() }
}

fn check(payload: &impl Serialize, expected: Expect) {
    let json = serde_json::to_string_pretty(payload).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["v"], 1);
    expected.assert_eq(&json);
}

#[test]
fn state() {
    let classes = classes();
    let heartbeat = Duration::from_secs(60);
    let full =
        StatePayload::new(origin(), &classes, &snapshot(), Some("a.jpg"), heartbeat).unwrap();
    check(
        &full,
        expect![[r#"
            {
              "v": 1,
              "time": "2025-11-24T16:00:00.250Z",
              "mono_ms": 61500,
              "boot_id": "00ff",
              "seq": 7,
              "state": "label",
              "label": {
                "id": "car",
                "name": "a \"red\"\n\u0007car"
              },
              "score": 0.75,
              "margin": 0.5,
              "sigma": 4.25,
              "reason": null,
              "since": {
                "time": "2025-11-24T15:59:58.750Z",
                "mono_ms": 60000
              },
              "last_known": {
                "id": "empty",
                "name": "an empty scene",
                "state": "none",
                "time": "2025-11-24T15:59:59.000Z",
                "mono_ms": 60250
              },
              "picture": "a.jpg",
              "heartbeat_s": 60.0
            }"#]],
    );
}

#[test]
fn state_without_a_clock_a_frame_or_a_past() {
    let classes = classes();
    let mut origin = origin();
    origin.at.wall = None;
    let snapshot = Snapshot {
        state: State::Stale,
        score: None,
        margin: None,
        reason: Some(Reason::Dwell),
        sigma: None,
        last_known: None,
        ..snapshot()
    };
    let heartbeat = Duration::from_millis(1500);
    let bare = StatePayload::new(origin, &classes, &snapshot, None, heartbeat).unwrap();
    check(
        &bare,
        expect![[r#"
            {
              "v": 1,
              "time": null,
              "mono_ms": 61500,
              "boot_id": "00ff",
              "seq": 7,
              "state": "stale",
              "label": null,
              "score": null,
              "margin": null,
              "sigma": null,
              "reason": "dwell",
              "since": {
                "time": null,
                "mono_ms": 60000
              },
              "last_known": null,
              "picture": null,
              "heartbeat_s": 1.5
            }"#]],
    );
}

#[test]
fn event() {
    let classes = classes();
    let change = Change { from: Outcome::Class(2), to: Outcome::Class(0) };
    let event = EventPayload::new(origin(), &classes, change, &snapshot(), true).unwrap();
    check(
        &event,
        expect![[r#"
        {
          "v": 1,
          "time": "2025-11-24T16:00:00.250Z",
          "mono_ms": 61500,
          "boot_id": "00ff",
          "seq": 7,
          "from": {
            "state": "none",
            "label": null
          },
          "to": {
            "state": "label",
            "label": {
              "id": "car",
              "name": "a \"red\"\n\u0007car"
            }
          },
          "score": 0.75,
          "margin": 0.5,
          "replayed": true
        }"#]],
    );
}

#[test]
fn evidence_of_a_camera() {
    let classes = classes();
    let evidence = evidence("it says \"stop\"\r\n\u{0}");
    let payload =
        EvidencePayload::new(&classes, &evidence, State::Label(0), None, Some(2), None).unwrap();
    let message = EvidenceMessage::new(origin(), "door", Some("a.jpg"), payload);
    check(
        &message,
        expect![[r#"
            {
              "v": 1,
              "time": "2025-11-24T16:00:00.250Z",
              "mono_ms": 61500,
              "boot_id": "00ff",
              "seq": 7,
              "camera": "door",
              "picture": "a.jpg",
              "state": "label",
              "reason": null,
              "label": {
                "id": "car",
                "name": "a \"red\"\n\u0007car",
                "score": 0.872590557
              },
              "margin": 0.800963963,
              "sigma": 4.5,
              "familiarity": 0.625,
              "scores": {
                "car": 0.872590557,
                "person": 0.071626595
              },
              "image": {
                "confidence": 0.242320889,
                "cosine": 0.25,
                "match": 0.75,
                "scores": {
                  "car": 0.665240956,
                  "person": 0.244728471
                }
              },
              "captions": {
                "confidence": 0.666311797,
                "scores": {
                  "car": 0.909442999,
                  "person": 0.045278501
                },
                "retrieved": [
                  {
                    "text": "it says \"stop\"\r\n\u0000",
                    "similarity": 0.25
                  }
                ]
              },
              "taught": {
                "confidence": 0.838593034,
                "weight": 0.5,
                "scores": {
                  "person": 0.964663156,
                  "car": 0.017668422
                },
                "recalled": [
                  {
                    "number": 3,
                    "text": "our \"red\" car",
                    "similarity": 0.97
                  }
                ]
              },
              "adaptation": {
                "mode": "shadow",
                "kept": 4,
                "drift": 0.125,
                "otherwise": {
                  "state": null,
                  "label": null,
                  "scores": {
                    "car": 0.598638031,
                    "person": 0.36309232
                  }
                }
              },
              "weights": {
                "image": 0.25,
                "captions": 0.75
              }
            }"#]],
    );
}

#[test]
fn evidence_of_a_picture_without_captions() {
    let classes = classes();
    let mut evidence = evidence("");
    evidence.captions = None;
    evidence.matches = None;
    evidence.taught = None;
    evidence.retrieved.clear();
    evidence.weights = Weights { image: 1.0, captions: 0.0 };
    let reason = Some(Reason::LowMargin);
    let payload =
        EvidencePayload::new(&classes, &evidence, State::Unknown, reason, None, None).unwrap();
    check(
        &PictureLine::new("pictures/a.jpg", payload),
        expect![[r#"
            {
              "v": 1,
              "picture": "pictures/a.jpg",
              "state": "unknown",
              "reason": "low_margin",
              "label": null,
              "margin": 0.800963963,
              "sigma": 4.5,
              "familiarity": 0.625,
              "scores": {
                "car": 0.872590557,
                "person": 0.071626595,
                "empty": 0.055782848
              },
              "image": {
                "confidence": 0.242320889,
                "cosine": 0.25,
                "match": null,
                "scores": {
                  "car": 0.665240956,
                  "person": 0.244728471,
                  "empty": 0.090030573
                }
              },
              "captions": null,
              "taught": null,
              "adaptation": {
                "mode": "shadow",
                "kept": 4,
                "drift": 0.125,
                "otherwise": {
                  "state": null,
                  "label": null,
                  "scores": {
                    "car": 0.598638031,
                    "person": 0.36309232,
                    "empty": 0.038269649
                  }
                }
              },
              "weights": {
                "image": 1.0,
                "captions": 0.0
              }
            }"#]],
    );
}

#[test]
fn info_of_the_node() {
    let (info, cameras) = (super::info(), cameras());
    check(
        &InfoPayload::new("00ff", stamp(), &info, &cameras),
        expect![[r#"
        {
          "v": 1,
          "time": "2025-11-24T16:00:00.250Z",
          "mono_ms": 61500,
          "boot_id": "00ff",
          "version": "1.2.3",
          "model": {
            "name": "starter",
            "space": "space-1",
            "run_by": "an abacus"
          },
          "index": {
            "file": "captions.idx",
            "n_entries": 3
          },
          "cameras": {
            "door": {
              "labels": [
                {
                  "id": "car",
                  "name": "a \"red\"\n\u0007car"
                },
                {
                  "id": "person",
                  "name": "a person"
                }
              ],
              "negatives": [
                {
                  "id": "empty",
                  "name": "an empty scene"
                }
              ]
            }
          }
        }"#]],
    );
}

#[test]
fn words() {
    let classes = classes();
    let evidence = evidence("");
    let reasons = REASONS.map(|it| {
        let it = EvidencePayload::new(&classes, &evidence, State::None(2), Some(it), None, None)
            .unwrap();
        serde_json::to_value(it).unwrap()["reason"].as_str().unwrap().to_owned()
    });
    assert_eq!(
        reasons,
        ["gated", "low_score", "low_margin", "background", "dwell", "cooldown", "removed"]
    );
    let statuses = [
        CameraStatus::Streaming,
        CameraStatus::Stalled,
        CameraStatus::Disconnected,
        CameraStatus::Disabled,
    ];
    assert_eq!(statuses.map(camera_status), ["streaming", "stalled", "disconnected", "disabled"]);
}

#[test]
fn a_negative_is_no_label_and_its_lead_is_its_own() {
    let (classes, evidence) = (classes(), evidence(""));
    let it = EvidencePayload::new(&classes, &evidence, State::None(2), None, None, None).unwrap();
    let it = serde_json::to_value(it).unwrap();
    assert_eq!((&it["state"], &it["label"]), (&"none".into(), &serde_json::Value::Null));
    // Another class is ahead of the state's.
    assert!(it["margin"].as_f64().unwrap() < -0.5);
    assert_eq!(it["image"]["match"], 0.5);
}

#[test]
fn what_json_cannot_say_is_an_error() {
    let classes = classes();
    for (what, evidence) in [
        ("image weight", {
            let mut it = evidence("");
            it.weights.image = f64::NAN;
            it
        }),
        ("caption similarity", {
            let mut it = evidence("");
            it.retrieved[0].similarity = f64::INFINITY;
            it
        }),
        ("match probability", {
            let mut it = evidence("");
            it.matches = Some(vec![f64::NAN; 3]);
            it
        }),
    ] {
        let error = EvidencePayload::new(&classes, &evidence, State::Unknown, None, None, None);
        assert!(error.unwrap_err().to_string().starts_with(what));
    }
    let bad = Snapshot { score: Some(f64::NAN), ..snapshot() };
    let error = StatePayload::new(origin(), &classes, &bad, None, LONG).unwrap_err();
    assert_eq!(error.to_string(), "score must be finite, got NaN");
}

#[test]
fn a_decision_over_other_classes_is_an_error() {
    let (classes, evidence) = (classes(), evidence(""));
    let wrong = Snapshot { state: State::Label(3), ..snapshot() };
    let error = StatePayload::new(origin(), &classes, &wrong, None, LONG).unwrap_err();
    assert_eq!(error.to_string(), "class 3 is not one of the 3 classes given");
    let change = Change { from: Outcome::Unknown, to: Outcome::Class(9) };
    assert!(EventPayload::new(origin(), &classes, change, &snapshot(), false).is_err());
    for state in [State::Label(3), State::None(3)] {
        assert!(matches!(
            EvidencePayload::new(&classes, &evidence, state, None, None, None),
            Err(PublishError::UnknownClass { index: 3, n_classes: 3 })
        ));
    }
    let mut none = evidence.clone();
    none.matches = Some(vec![]);
    assert!(matches!(
        EvidencePayload::new(&classes, &none, State::Label(0), None, None, None),
        Err(PublishError::UnknownClass { index: 0, n_classes: 3 })
    ));
    let mut two = evidence.clone();
    two.fused = lookout_core::Distribution::softmax(&[0.0, 1.0]).unwrap();
    assert!(EvidencePayload::new(&classes, &two, State::Unknown, None, None, None).is_err());
}
