//! `calibrate` on recordings and cameras, and what `check`, `run` and `classify` make of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lookout_capture::{PictureLimits, read_picture};
use lookout_store::Calibrations;

use crate::daemon::Site;
use crate::reload::Manager;
use crate::support::{Mosquitto, Ran, free_port, lookout};

const KITCHEN: &str = "coco_000000030213.jpg";

/// Numbers that look like chance.
struct Noise(u32);

impl Noise {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % n
    }
}

/// A camera that looks at one picture: each frame another cut of it and another light, with noise.
fn scene(folder: &Path, picture: &Path, n_frames: u32) -> PathBuf {
    const SIDE: u32 = 160;
    let scene = folder.join("scene");
    fs::create_dir(&scene).unwrap();
    let picture = read_picture(picture, &PictureLimits::default()).unwrap();
    let (width, height) = (picture.width_px(), picture.height_px());
    let side = width.min(height) - 16;
    let mut noise = Noise(1);
    for n in 0..n_frames {
        let (left, top, light) = (noise.below(16), noise.below(16), 94 + noise.below(13));
        // A bitmap has its lowest row first, and blue before red.
        let bytes = SIDE * SIDE * 3;
        let mut file = b"BM".to_vec();
        file.extend((54 + bytes).to_le_bytes());
        file.extend([0u32, 54, 40, SIDE, SIDE].map(u32::to_le_bytes).concat());
        file.extend([1u16, 24].map(u16::to_le_bytes).concat());
        file.extend([0u32, bytes, 2835, 2835, 0, 0].map(u32::to_le_bytes).concat());
        for y in (0..SIDE).rev() {
            for x in 0..SIDE {
                let (x, y) = (left + x * side / SIDE, top + y * side / SIDE);
                let at = ((y * width + x) * 3) as usize;
                for channel in [2, 1, 0] {
                    let value = u32::from(picture.rgb()[at + channel]) * light / 100;
                    let value = (value + noise.below(9)).saturating_sub(4).min(255);
                    file.push(u8::try_from(value).unwrap());
                }
            }
        }
        fs::write(scene.join(format!("{n:05}.bmp")), file).unwrap();
    }
    scene
}

/// A site with a kitchen that is no label, and a recording of it.
fn site(n_frames: u32) -> Site {
    let site = Site::new(free_port(), "file:pictures/coco_000000030213.jpg?fps=8");
    let text = fs::read_to_string(site.config()).unwrap().replace("\"a kitchen\", ", "");
    fs::write(site.config(), format!("calibration = 'cal'\n{text}")).unwrap();
    scene(site.folder.path(), &site.folder.path().join("pictures").join(KITCHEN), n_frames);
    site
}

fn verb(site: &Site, verb: &str, args: &[&str]) -> Ran {
    let mut command: Command = lookout();
    command.current_dir(site.folder.path());
    Ran::from(command.args([verb, "--config", "lookout.toml"]).args(args).output().unwrap())
}

fn calibrate(site: &Site, args: &[&str]) -> Ran {
    verb(site, "calibrate", &[&["--from", "scene"], args].concat())
}

#[test]
fn a_recorded_scene_gives_bounds_that_every_verb_uses() {
    let site = site(150);
    let told = verb(&site, "check", &[]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.stderr.contains("`lookout calibrate` makes it"), "{}", told.stderr);

    let ran = calibrate(&site, &[]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    for part in ["camera yard: 150 frames in 2 min", "there from", "extrapolated", "needs no bound"]
    {
        assert!(ran.stdout.contains(part), "no {part:?} in {}", ran.stdout);
    }
    let all = Calibrations::read(&site.folder.path().join("cal")).unwrap();
    let yard = all.cameras.values().next().unwrap();
    assert_eq!((yard.n_frames, all.cameras.len()), (150, 1));
    for id in ["a_bear", "a_cat", "a_motorcycle"] {
        let class = &yard.classes[id];
        assert!(class.bound.unwrap() < 40.0 && (0.0..0.5).contains(&class.mean), "{class:?}");
    }
    let shown = verb(&site, "calibrate", &["--show"]);
    assert!(shown.stdout.contains("camera yard: 150 frames"), "{}", shown.stdout);
    assert_eq!(verb(&site, "check", &[]).stderr, "");

    let picture = ["pictures/coco_000000000285.jpg", "--calibration", "cal"];
    let words = ["--label", "a bear", "--label", "a cat", "--label", "a motorcycle"];
    let mut command = lookout();
    command.current_dir(site.folder.path()).arg("classify").args(words);
    let ran =
        Ran::from(command.args(["--negative", "an empty street"]).args(picture).output().unwrap());
    assert!(
        ran.stdout.contains("a bear, score") && ran.stdout.contains(" sigma above"),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.stderr, "", "all was calibrated with these words");

    // With other words one label is not what was calibrated.
    let other = ["--set", "labels=a bear,a cat,a big motorcycle"];
    let told = verb(&site, "check", &other).stderr;
    assert!(told.contains("a_big_motorcycle changed since it was calibrated"), "{told}");
}

#[test]
fn too_little_and_labels_in_the_picture_are_told() {
    let site = site(120);
    for n in 30..120 {
        fs::rename(
            site.folder.path().join(format!("scene/{n:05}.bmp")),
            site.folder.path().join(format!("{n:05}.bmp")),
        )
        .unwrap();
    }
    calibrate(&site, &[])
        .failed(1, &["camera yard is not calibrated", "at least 100 frames, got 30", "--for 30m"]);
    assert!(!site.folder.path().join("cal").exists());
    for n in 30..120 {
        fs::rename(
            site.folder.path().join(format!("{n:05}.bmp")),
            site.folder.path().join(format!("scene/{n:05}.bmp")),
        )
        .unwrap();
    }
    // At 20 frames a second there are six seconds, too few for a mean over one.
    let smooth = ["--fps", "20", "--set", "decision.smoothing_s=2"];
    let slow = calibrate(&site, &smooth);
    assert_eq!(slow.code, Some(0), "{}", slow.stderr);
    assert!(slow.stderr.contains("the bound is provisional, as the scene changes too slowly: "));
    assert!(slow.stdout.contains("PROVISIONAL: the scene changes so slowly"), "{}", slow.stdout);
    let there = calibrate(&site, &["--set", "labels=a kitchen,a cat"]);
    assert_eq!(there.code, Some(0), "{}", there.stderr);
    assert!(there.stdout.contains("NO BOUND: it was accepted in"), "{}", there.stdout);
    let known = ["--set", "labels=a kitchen,a cat", "--absent"];
    let absent = calibrate(&site, &[&known[..], &["A Kitchen"]].concat());
    assert_eq!(absent.code, Some(0), "{}", absent.stderr);
    assert!(!absent.stdout.contains("it was accepted in"), "{}", absent.stdout);
    calibrate(&site, &[&known[..], &["a street"]].concat())
        .failed(1, &["--absent must be one of the labels a_cat, a_kitchen, got \"a street\""]);
}

#[test]
fn frames_count_as_the_daemon_would_have_them() {
    let site = site(120);
    let slow = calibrate(&site, &["--set", "cameras.yard.max_fps=0.5"]);
    slow.failed(1, &["60 frames come faster than max_fps", "at least 100 frames, got 60"]);
    // Of a scene that the gate takes for still, one frame in ten seconds tells something.
    let still = ["--set", "gate.luma_change=255", "--set", "gate.interval_s=10"];
    let still = calibrate(&site, &still).stdout;
    assert!(still.contains("the scene changes so slowly"), "{still}");
    // What the bank keeps from being accepted does not seem to be there, and no broker is needed.
    let broker = ["--set", "mqtt.user=it", "--set", "mqtt.password_file=gone"];
    let kitchen = [&["--set", "labels=a kitchen,a cat"], &broker[..]].concat();
    let bank = ["--set", "background.bank=everyday", "--set", "decision.familiarity=0.99"];
    let there = calibrate(&site, &kitchen);
    assert!(there.stdout.contains("it was accepted in"), "{}{}", there.stdout, there.stderr);
    let gone = calibrate(&site, &[&kitchen[..], &bank].concat());
    assert_eq!(gone.code, Some(0), "{}", gone.stderr);
    assert!(!gone.stdout.contains("it was accepted in"), "{}", gone.stdout);
}

#[test]
fn a_recording_with_bad_parts_is_calibrated_and_words_that_are_no_class_are_refused() {
    let site = site(140);
    let table = |truths: [&str; 3]| {
        let row = |n: usize| format!("{n:05}.bmp\t{n}\t{}\n", truths[n / 15 % 3]);
        let rows: String = (0..140).map(row).collect();
        let gone = "gone.bmp\t140\t\n";
        let text = format!("file\tseconds\ttruth\n{rows}{gone}");
        fs::write(site.folder.path().join("scene/frames.tsv"), text).unwrap();
    };
    table(["", "a catt", "none"]);
    calibrate(&site, &[]).failed(78, &["frames.tsv:17: `truth` must be", "\"a catt\""]);
    assert!(!site.folder.path().join("cal").exists());
    // Negatives are the scene as it is.
    table(["", "an_empty_street", "none"]);
    let ran = calibrate(&site, &[]);
    ran.failed(1, &["gone.bmp", "1 frame could not be used"]);
    assert!(ran.stdout.contains("camera yard: 140 frames"), "{}", ran.stdout);
    let all = Calibrations::read(&site.folder.path().join("cal")).unwrap();
    assert_eq!(all.cameras.values().next().unwrap().n_frames, 140);
    table(["", "a cat", "none"]);
    calibrate(&site, &[]).failed(1, &["45 frames have a label in them", "got 95"]);

    let picture = ["pictures/coco_000000000285.jpg", "--calibration", "cal", "--camera", "shed"];
    let mut command = lookout();
    command.current_dir(site.folder.path()).args(["classify", "--label", "a bear"]);
    command.args(["--negative", "an empty street"]).args(picture);
    Ran::from(command.output().unwrap())
        .failed(1, &["--camera must be one of yard, which cal has, got shed"]);
}

#[test]
fn a_file_that_does_not_fit_is_told() {
    let site = site(1);
    let path = site.folder.path().join("cal");
    let folder = site.folder.path();
    let manager = Manager::new(folder);
    let (mut daemon, log) = site.run_with(|it| {
        it.env("NOTIFY_SOCKET", folder.join("notify"));
    });
    // There is none yet, and the daemon watches all the same.
    manager.until("calibration: ");
    let other = Calibrations { space: "other".to_owned(), cameras: BTreeMap::new() };
    other.write(&path).unwrap();
    daemon.signal("-HUP");
    let refused = "Reload failed, the old labels go on: ";
    log.until(|it| (it.contains(refused) && it.contains("model space other")).then_some(()));
    daemon.signal("-TERM");
    assert_eq!(daemon.wait(), Some(0));
    for it in ["check", "run"] {
        verb(&site, it, &[]).failed(78, &["`calibration`", "of model space other"]);
    }
    let off = verb(&site, "check", &["--set", "calibration=off"]);
    assert_eq!(off.code, Some(0), "{}", off.stderr);
    fs::write(&path, "lookout calibration 1\n{}").unwrap();
    for it in ["check", "run"] {
        verb(&site, it, &[])
            .failed(78, &["`calibration` cannot be used", "is damaged", "move it away and run"]);
    }
    calibrate(&site, &[]).failed(1, &["move that away"]);
}

#[test]
fn a_camera_is_calibrated_live_and_the_daemon_takes_it_up() {
    let mosquitto = Mosquitto::start();
    let site = site(40);
    let text = fs::read_to_string(site.config()).unwrap();
    let port = mosquitto.port();
    let text: String = text
        .lines()
        .map(|it| match it.trim_start() {
            line if line.starts_with("port =") => format!("port = {port}\n"),
            line if line.starts_with("uri = \"file:") => "uri = \"dir:scene?fps=20\"\n".to_owned(),
            _ => format!("{it}\n"),
        })
        .collect();
    fs::write(site.config(), text).unwrap();
    let (daemon, log) = site.run_with(|_| {});
    let ran = verb(&site, "calibrate", &["--for", "25s"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    daemon.signal("-HUP");
    log.until(|it| {
        it.contains("Reloaded: new labels, rules or calibration are in use").then_some(())
    });
    let all = Calibrations::read(&site.folder.path().join("cal")).unwrap();
    let evidence = mosquitto.subscribe().until_topic("lookout/test/yard/evidence").json();
    // The sigma of the class on top, by what was calibrated.
    let top = evidence["scores"].as_object().unwrap().keys().next().unwrap();
    let class = &all.cameras.values().next().unwrap().classes[top];
    let expected = (evidence["image"]["cosine"].as_f64().unwrap() - class.mean) / class.deviation;
    let got = evidence["sigma"].as_f64().unwrap();
    assert!((got - expected).abs() < 1e-4, "{got} {expected} {evidence:#}");
}
