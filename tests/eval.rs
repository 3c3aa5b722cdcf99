//! `eval` on pictures with the starter, and on a small set of embeddings whose figures numpy made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::support::{Ran, root, run};

const SET: &str = "tests/oracle/eval/set";
const UNKNOWN: &str = "tests/oracle/eval/unknown";
const COCO: &str = "configs/labels/coco-80.toml";
const PICTURES: &str = "models/starter/pictures/pictures.tsv";

/// The only set of a run that succeeded.
#[track_caller]
fn only_set(ran: &Ran) -> Value {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let mut report = ran.json().remove(0);
    assert_eq!(report["sets"].as_array().unwrap().len(), 1);
    report["sets"][0].take()
}

fn variants(part: &Value) -> &Vec<Value> {
    part["variants"].as_array().unwrap()
}

#[track_caller]
fn figure(part: &Value, variant: &str, key: &str) -> f64 {
    let it = variants(part).iter().find(|it| it["variant"] == variant).unwrap();
    it[key].as_f64().unwrap_or_else(|| panic!("{variant} has no {key}"))
}

/// Confusions and classes add up to the accuracy of the variant that they are of.
#[track_caller]
fn check_confusions(part: &Value, by: &str) {
    let it = &part["confusions"];
    assert_eq!(it["by"], by);
    let rows = |key: &str| it[key].as_array().unwrap().clone();
    let (classes, pairs) = (rows("classes"), rows("pairs"));
    let sum = |of: &[Value], key: &str| of.iter().map(|it| it[key].as_u64().unwrap()).sum::<u64>();
    let (n, right, wrong) = (sum(&classes, "n"), sum(&classes, "right"), sum(&pairs, "n"));
    assert_eq!((Some(n), n - right), (part["scored"].as_u64(), wrong));
    let top1 = figure(part, by, "top1");
    let [of, hits] = [n, right].map(|it| f64::from(u32::try_from(it).unwrap()));
    assert!((top1 * of - hits).abs() < 1e-9, "{right} of {n}, not {top1}");
    for class in &classes {
        let of: Vec<Value> =
            pairs.iter().filter(|it| it["class"] == class["id"]).cloned().collect();
        assert!(of.iter().all(|it| it["taken_for"] != class["id"]), "{class}");
        let count = |key: &str| class[key].as_u64().unwrap();
        assert_eq!(count("n") - count("right"), sum(&of, "n"));
    }
    assert!(pairs.is_sorted_by_key(|it| std::cmp::Reverse(it["n"].as_u64())), "{it}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_set_of_embeddings_has_the_figures_of_numpy() {
    let args = ["eval", "--embeddings", SET, "--unknown", UNKNOWN, "--captions", "5"];
    let set = only_set(&run(&[&args[..], &["--candidates", "12", "--json"]].concat()));
    let counts = ["pictures", "scored", "unknown", "labels", "bank"].map(|it| set[it].as_u64());
    assert_eq!(counts, [320, 291, 40, 12, 60].map(Some));
    let expected = fs::read_to_string(root().join("tests/oracle/eval/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let part = &set["parts"][0];
    assert_eq!(part["part"], "all");
    for (variant, figures) in expected.as_object().unwrap() {
        for (key, expected) in figures.as_object().unwrap() {
            let (got, expected) = (figure(part, variant, key), expected.as_f64().unwrap());
            assert!((got - expected).abs() < 1e-6, "{variant} {key}: {got}, not {expected}");
        }
    }
    check_confusions(part, "pooled");
    let base = figure(part, "image only", "top1");
    for it in variants(part) {
        let change = &it["change"];
        if it["variant"] == "image only" {
            assert!(change.is_null());
            continue;
        }
        let [points, low, high, won, lost] =
            ["points", "low", "high", "won", "lost"].map(|key| change[key].as_f64().unwrap());
        assert!((points - 100.0 * (it["top1"].as_f64().unwrap() - base)).abs() < 1e-9, "{it}");
        assert!((points - 100.0 * (won - lost) / 291.0).abs() < 1e-9, "{it}");
        assert!(low <= points && points <= high && low < high, "{it}");
        let verdict = match (low <= 0.0 && 0.0 <= high, won + lost < 6.0) {
            (true, _) => "not distinguishable",
            (false, true) => "too few to tell",
            (false, false) if points < 0.0 => "worse",
            (false, false) => "better",
        };
        assert_eq!(change["verdict"], verdict, "{it}");
    }
}

#[test]
fn halves_are_parts_of_the_whole_and_follow_the_seed() {
    let halves = |seed: &str| {
        let args = ["eval", "--embeddings", SET, "--unknown", UNKNOWN, "--split", "half", "--json"];
        only_set(&run(&[&args[..], &["--seed", seed]].concat()))["parts"].take()
    };
    let whole = only_set(&run(&["eval", "--embeddings", SET, "--unknown", UNKNOWN, "--json"]));
    let parts = halves("3");
    assert_eq!(
        (&parts[0]["part"], &parts[1]["part"]),
        (&"chosen on".into(), &"reported on".into())
    );
    for key in ["scored", "known", "unknown"] {
        let count = |part: &Value| part[key].as_u64().unwrap();
        let (a, b) = (count(&parts[0]), count(&parts[1]));
        assert_eq!(a + b, count(&whole["parts"][0]), "{key}");
        assert!(a.abs_diff(b) * 3 < a + b, "{key}: {a}, {b}");
    }
    let hits = |part: &Value| figure(part, "memoryless", "top1") * part["scored"].as_f64().unwrap();
    let sum = hits(&parts[0]) + hits(&parts[1]);
    assert!((sum - hits(&whole["parts"][0])).abs() < 1e-9);
    let scored = |it: &Value| it[0]["scored"].clone();
    let others = ["4", "5", "6"].map(|seed| scored(&halves(seed)));
    assert!(others.iter().any(|it| *it != scored(&parts)), "{others:?}");
    assert_eq!(scored(&halves("3")), scored(&parts));
}

#[test]
fn pictures_with_the_starter() {
    let set = only_set(&run(&["eval", "--labels", COCO, PICTURES, "--json"]));
    let counts = ["pictures", "scored", "unknown", "labels"].map(|it| set[it].as_u64());
    assert_eq!(counts, [40, 23, 0, 80].map(Some));
    let part = &set["parts"][0];
    // models/README.md, section "Accuracy"; `classify` has the same figures.
    for variant in ["image only", "captions only", "memoryless"] {
        let got = 23.0 * figure(part, variant, "top1");
        assert!((got - 14.0).abs() < 1e-9, "{variant}: {got}");
    }
    let names: Vec<&str> =
        variants(part).iter().map(|it| it["variant"].as_str().unwrap()).collect();
    let expected = [
        "names only",
        "image only",
        "captions only",
        "memoryless",
        "running",
        "windowed 256",
        "pooled",
        "pooled, adapting",
    ];
    assert_eq!(names, expected);
    assert!(variants(part).iter().all(|it| it["auroc"].is_null()));
    for (key, least) in [("decode", 0.1), ("encode", 1.0), ("search", 0.01)] {
        assert!(least < set["cpu_ms"][key].as_f64().unwrap(), "{key}: {}", set["cpu_ms"]);
    }
    // The same in words.
    check_confusions(part, "pooled");
    let ran = run(&["eval", "--labels", COCO, PICTURES]);
    let pair = &part["confusions"]["pairs"][0];
    let classes = part["confusions"]["classes"].as_array().unwrap();
    let class = |key: &str| classes.iter().find(|it| it["id"] == pair[key]).unwrap();
    let (from, to) = (class("class"), class("taken_for"));
    let name = |of: &Value| of["name"].as_str().unwrap().to_owned();
    let line = format!("{} taken for {}: {} of {}\n", name(from), name(to), pair["n"], from["n"]);
    let head = "confusions by pooled, the most frequent first:";
    assert!(ran.stdout.contains(&format!("  {head}\n    {line}")), "{line}{}", ran.stdout);
    // 100 * (1 - 0.05 ** (1 / 23)) by Python.
    let equal =
        variants(part).iter().any(|it| it["change"]["won"] == 0 && it["change"]["lost"] == 0);
    let told = "+0.0, right on the same pictures; this many could hide up to 12.2 points";
    assert_eq!(ran.stdout.contains(told), equal, "{}", ran.stdout);
}

#[test]
fn a_configuration_is_no_label_set() {
    for verb in [&["eval", PICTURES][..], &["labels", "show"], &["labels", "tune"]] {
        let ran = run(&[verb, &["--labels", "configs/demo.toml"]].concat());
        ran.failed(78, &["demo.toml:", "is a key of a configuration", "`labels_file`"]);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn folders_are_classes_and_what_cannot_be_read_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (from, to) in [
        ("000000000285", "known/bear/a.jpg"),
        ("000000165518", "known/person/b.jpg"),
        ("000000000872", "other/c.jpg"),
    ] {
        fs::create_dir_all(at(to).parent().unwrap()).unwrap();
        let from = root().join(format!("models/starter/pictures/coco_{from}.jpg"));
        fs::copy(from, at(to)).unwrap();
    }
    fs::write(at("known/person/z.jpg"), "no picture").unwrap();
    symlink("nothing", at("known/bear/gone.jpg")).unwrap();
    let (known, other) = (at("known"), at("other"));
    let ran = run(&["eval", text(&known), "--unknown", text(&other), "--json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    let set = &ran.json()[0]["sets"][0];
    assert_eq!(
        (&set["pictures"], &set["scored"], &set["unknown"]),
        (&2.into(), &2.into(), &1.into())
    );
    let files = [0, 1].map(|it| set["unreadable"][it]["file"].as_str().unwrap());
    assert_eq!(files, ["bear/gone.jpg", "person/z.jpg"]);
    let part = &set["parts"][0];
    assert!((figure(part, "image only", "top1") - 1.0).abs() < 1e-9);
    // Two pairs of one known and one unknown.
    let quarters = 4.0 * figure(part, "image only", "auroc");
    assert!((quarters - quarters.round()).abs() < 1e-9);
    // The same in words.
    let ran = run(&["eval", text(&known), "--unknown", text(&other)]);
    ran.failed(1, &["z.jpg", "gone.jpg"]);
    assert!(
        ran.stdout.contains(": 2 pictures, 2 scored, 2 classes, 1 picture of none"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("-100.0 to +100.0, too few to tell"), "{}", ran.stdout);
    assert!(ran.stdout.contains("left out, unreadable: 2 pictures\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\n  image only          100.0"), "{}", ran.stdout);

    // One of the unknown is known, by its folder.
    let ran = run(&["eval", text(&known), "--unknown", text(&known)]);
    ran.failed(78, &["\"bear/a.jpg\" shows \"bear\", which is a label"]);

    // By the picture alone, without an index.
    fs::remove_file(at("known/bear/gone.jpg")).unwrap();
    fs::remove_file(at("known/person/z.jpg")).unwrap();
    let set = only_set(&run(&["eval", text(&known), "--image-only", "--json"]));
    let part = &set["parts"][0];
    let names: Vec<&str> =
        variants(part).iter().map(|it| it["variant"].as_str().unwrap()).collect();
    assert_eq!((&set["bank"], &set["captions"]), (&0.into(), &Value::Null));
    assert_eq!(names, ["names only", "image only"]);
    check_confusions(part, "image only");
    assert!((figure(part, "image only", "top1") - 1.0).abs() < 1e-9);

    // A half, and a class, without pictures.
    fs::remove_dir_all(at("known/person")).unwrap();
    fs::create_dir_all(at("known/person")).unwrap();
    run(&["eval", text(&known)]).failed(1, &["known: a folder without pictures", ": person"]);
    let labels = ["--labels", COCO, "--split", "half"];
    fs::remove_dir_all(at("known/person")).unwrap();
    run(&[&["eval", text(&known)], &labels[..]].concat())
        .failed(78, &["1 picture, --seed 0 puts none into the half `", "on`; give another --seed"]);
    // Pictures without a class, in a folder and in a table.
    let flat = at("flat");
    fs::create_dir(&flat).unwrap();
    fs::copy(at("known/bear/a.jpg"), flat.join("a.jpg")).unwrap();
    for more in [&[][..], &["--labels", COCO]] {
        let ran = run(&[&["eval", text(&flat)], more].concat());
        ran.failed(1, &["flat: there must be a folder for each class", "flat/cat/a.jpg; all"]);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    let table = flat.join("pictures.tsv");
    fs::write(&table, "file\na.jpg\n").unwrap();
    run(&["eval", text(&table)]).failed(1, &["no picture has a label; say what each shows in a"]);
    // What makes no classes is told without flags that there are not.
    run(&["eval", text(&known)])
        .failed(78, &["name some with --labels", "known: `label` breaks a rule: needs at least 2"]);
}

#[test]
fn a_negative_on_top_is_right_where_a_negative_is_true() {
    let folder = tempfile::tempdir().unwrap();
    let (labels, table) = (folder.path().join("labels.toml"), folder.path().join("pictures.tsv"));
    // Bears under names that nobody asks for: the true negative is not the one on top.
    let set = "[[label]]\nname = 'toothbrush'\n[[negative]]\nname = 'a bear'\n\
               [[negative]]\nid = 'nothing'\nname = 'traffic light'\naliases = ['empty']\n";
    fs::write(&labels, set).unwrap();
    let picture = root().join("models/starter/pictures/coco_000000000285.jpg");
    let write = |label: &str| {
        let rows = format!("file\tlabel\n{}\t{label}\n", picture.display());
        fs::write(&table, rows).unwrap();
    };
    let eval = |more: &[&str]| {
        let args = ["eval", "--labels", text(&labels), text(&table), "--json"];
        run(&[&args[..], more].concat())
    };
    for (label, right) in [("empty", 1.0), ("A Bear", 1.0), ("toothbrush", 0.0)] {
        write(label);
        let set = only_set(&eval(&[]));
        assert!((figure(&set["parts"][0], "image only", "top1") - right).abs() < 1e-9, "{label}");
        // A picture of a negative is neither known nor unknown.
        assert_eq!(set["parts"][0]["known"], u8::from(label == "toothbrush"));
    }
    write("bear");
    eval(&[]).failed(
        78,
        &[
            "label \"bear\" of 1 picture, \"",
            "is no id, name or alias of a class",
            "--skip-unmatched",
        ],
    );
    eval(&["--skip-unmatched"]).failed(1, &["no picture has a label that is a class"]);
}

#[test]
fn captions_of_a_picture_are_left_out_and_unmatched_labels_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("captions.tsv"), "caption\na zebra\na brown bear sits on grass\nA red bus\n")
        .unwrap();
    let (captions, index) = (at("captions.tsv"), at("captions.lidx"));
    let ran = run(&["index", "build", text(&captions), "--output", text(&index)]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let picture = root().join("models/starter/pictures/coco_000000000285.jpg");
    let table = at("pictures.tsv");
    let top1 = |own: &str| {
        let row = format!("{}\tbear|griffin\t{own}", picture.display());
        fs::write(&table, format!("file\tlabels\tcaptions\n{row}\n")).unwrap();
        let args = ["eval", "--labels", COCO, "--index", text(&index), "--skip-unmatched"];
        let set =
            only_set(&run(&[&args[..], &["--captions", "1", text(&table), "--json"]].concat()));
        assert_eq!(set["unmatched"][0]["label"], "griffin");
        figure(&set["parts"][0], "captions only", "top1")
    };
    assert!((top1("") - 1.0).abs() < 1e-9);
    assert!(top1("other || A brown BEAR sits on grass").abs() < 1e-9);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let spoiled = folder.path().join("set");
    fs::create_dir(&spoiled).unwrap();
    for file in fs::read_dir(root().join(SET)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), spoiled.join(file.file_name())).unwrap();
    }
    let set = |name: &str, contents: &str| fs::write(spoiled.join(name), contents).unwrap();
    let eval = |more: &[&str]| run(&[&["eval", "--embeddings", text(&spoiled)], more].concat());
    eval(&["--unknown", SET])
        .failed(1, &["row 0 of the unknown shows \"class", "which is a class"]);
    eval(&["--captions", "9", "--candidates", "8"])
        .failed(78, &["--candidates must be at least --captions (9), got 8"]);
    eval(&["--candidates", "15"])
        .failed(78, &["--candidates must be at least the 16 captions that count, got 15"]);
    eval(&["--labels", COCO]).failed(1, &["--labels", "cannot be used with"]);
    eval(&["--skip-unmatched"]).failed(1, &["--skip-unmatched", "cannot be used with"]);
    run(&["eval"]).failed(1, &["PICTURES"]);
    set("set.json", r#"{"space": "another", "logit_scale": 1}"#);
    eval(&["--unknown", UNKNOWN])
        .failed(1, &["must be of one model, got \"small\" (16 dimensions) and \"another\" (16)"]);
    set("truth.tsv", "row\tclasses\town_captions\n0\tdog\t\n");
    eval(&[]).failed(1, &["truth.tsv, line 2: \"dog\" is no class of classes.txt"]);
    let rows: String = (0..320).map(|it| format!("{it}\t\t\n")).collect();
    set("truth.tsv", &format!("row\tclasses\town_captions\n{rows}"));
    eval(&[]).failed(1, &["truth.tsv names no class of any row; name in its column `classes`"]);
}
