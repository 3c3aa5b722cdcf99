//! `lookout index build` over every kind of source: what it takes, leaves out, and goes on with.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lookout_core::Embedding;
use lookout_index::Index;
use serde_json::{Value, json};

use crate::support::{Ran, lookout, root, run};

const BEAR: &str = "coco_000000000285.jpg";
const PICTURES: [&str; 3] = [BEAR, "coco_000000000872.jpg", "coco_000000012280.jpg"];

/// A folder that goes away, and paths in it as text.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        self.at(name)
    }

    /// Puts a sample picture of the starter there.
    fn picture(&self, picture: &str, name: &str) {
        self.write(name, fs::read(root().join("models/starter/pictures").join(picture)).unwrap());
    }
}

fn oracle(name: &str) -> String {
    root().join("tests/oracle/sources").join(name).to_str().unwrap().to_owned()
}

#[track_caller]
fn built(args: &[&str]) -> Ran {
    let ran = run(&[&["index", "build"], args].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran
}

#[track_caller]
fn refused(args: &[&str], parts: &[&str]) {
    run(&[&["index", "build"], args].concat()).failed(1, parts);
}

fn info(index: &str) -> Value {
    let ran = run(&["index", "info", "--json", index]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.json().remove(0)
}

/// The same four pairs as a folder, as COCO captions and as a tar file, each with rows that cannot be
/// used.
#[test]
fn pairs_give_the_same_index_whatever_they_come_in() {
    let place = Place::new();
    let captions = [
        ("a", PICTURES[0], "a bear in a river"),
        ("b", PICTURES[1], "two men play baseball"),
        ("b", PICTURES[1], "A man jumps"),
        ("c", PICTURES[2], "something else"),
    ];
    for (key, picture, _) in captions {
        place.picture(picture, &format!("folder/{key}.jpg"));
    }
    place.write("folder/a.txt", "a bear in a river\n");
    place.write("folder/b.txt", "two men play baseball\n\nA man jumps");
    place.write("folder/c.txt", " something  else\n");
    place.write("folder/aa.png", "no picture");
    place.write("folder/aa.txt", "what is not seen");
    place.picture(BEAR, "folder/bb.jpg");
    let folder = built(&[&place.at("folder"), "--output", &place.at("folder.lidx")]);
    let told = [
        "2 rows left out:",
        "aa.png:0: ",
        "aa.png must be a JPEG, PNG, WebP, BMP or GIF picture",
        "bb.jpg: cannot read bb.txt: No such file",
    ];
    folder.failed(0, &told);
    let expected = fs::read(place.at("folder.lidx")).unwrap();

    let image = |(id, name): (i64, &str)| json!({"id": id, "file_name": name});
    let images: Vec<Value> =
        [(9, "c.jpg"), (1, "a.jpg"), (3, "b.jpg"), (2, "gone.jpg")].map(image).into();
    let ids = [1, 3, 3, 9];
    let annotation =
        |(id, (.., caption)): (i64, (_, _, &str))| json!({"image_id": id, "caption": caption});
    let mut annotations: Vec<Value> = ids.into_iter().zip(captions).map(annotation).collect();
    annotations.push(json!({"image_id": 2, "caption": "a picture that is not there"}));
    let text = json!({"images": images, "annotations": annotations}).to_string();
    let coco = place.write("captions_val.json", text);
    refused(&[&coco, "--output", &place.at("coco.lidx")], &["--pictures"]);
    let args = [&coco, "--pictures", &place.at("folder"), "--output", &place.at("coco.lidx")];
    built(&args).failed(0, &["1 row left out:", "captions_val.json:1: cannot read ", "gone.jpg"]);
    assert_eq!(fs::read(place.at("coco.lidx")).unwrap(), expected, "coco");

    let mut members = Vec::new();
    for (n, (_, picture, caption)) in captions.into_iter().enumerate() {
        place.picture(picture, &format!("tar/{n}.jpg"));
        place.write(&format!("tar/{n}.txt"), caption);
        members.extend([format!("{n}.jpg"), format!("{n}.txt")]);
    }
    place.write("tar/4.jpg", "no picture");
    place.write("tar/4.txt", "what is not seen");
    members.extend(["4.jpg".to_owned(), "4.txt".to_owned()]);
    let status = Command::new("tar")
        .args(["--format=ustar", "-cf", &place.at("shard.tar"), "-C", &place.at("tar")])
        .args(members)
        .status();
    assert!(status.unwrap().success());
    let tar = built(&[&place.at("shard.tar"), "--output", &place.at("tar.lidx"), "--batch", "3"]);
    tar.failed(0, &["1 row left out:", "shard.tar:4: the picture must be a JPEG"]);
    assert_eq!(fs::read(place.at("tar.lidx")).unwrap(), expected, "webdataset");

    let info = info(&place.at("folder.lidx"));
    assert_eq!((&info["entries"], &info["own_keys"]), (&json!(4), &json!(true)), "{info}");
    assert_eq!(info["method"], "exhaustive");
    // Found by the picture, not by what the caption says.
    let picture = place.at("folder/c.jpg");
    let index = place.at("folder.lidx");
    let found = run(&["index", "search", "--json", "-n", "1", "--index", &index, &picture]);
    let found = &found.json()[0]["found"][0];
    assert_eq!(found["text"], "something else");
    assert!(found["key_similarity"].as_f64().unwrap() > 0.99, "{found}");
    let text = run(&["index", "info", &index]).stdout;
    assert!(text.contains("found by         pictures") && text.contains("exhaustive"), "{text}");
}

/// As `starter` in the oracle.
fn vector(row: i64, of: i64) -> Embedding {
    let value = |column: i64| (row * 37 + (column * column + 1) * (of + 3) * (row + 2)) % 97 - 48;
    let values = (0..384).map(|it| f32::from(i16::try_from(value(it)).unwrap()));
    Embedding::normalize(values.collect()).unwrap()
}

#[test]
fn precomputed_embeddings_need_no_model() {
    let place = Place::new();
    let find = |index: &str, query: &Embedding| {
        let index = Index::open(Path::new(&place.at(index))).unwrap();
        let best = index.search(query, 1).unwrap().remove(0);
        (best.text, best.key_similarity)
    };
    // A bundle whose towers are not what they should be: they are not looked at.
    let model = PathBuf::from(place.at("model"));
    fs::create_dir(&model).unwrap();
    for entry in fs::read_dir(root().join("models/starter")).unwrap() {
        let path = entry.unwrap().path();
        let target = model.join(path.file_name().unwrap());
        match path.extension().is_some_and(|it| it == "onnx") {
            true => fs::write(target, "no tower").unwrap(),
            false => std::os::unix::fs::symlink(path, target).unwrap(),
        }
    }
    let model = model.to_str().unwrap();
    let both = [&oracle("starter"), "--model", model, "--output", &place.at("both.lidx")];
    built(&both).failed(0, &["1 row left out:", "metadata_0.parquet:5: has no caption"]);
    let texts = ["metadata", "text_emb"].map(|it| (oracle("starter") + "/" + it, it));
    fs::create_dir(place.at("texts")).unwrap();
    for (from, name) in texts {
        std::os::unix::fs::symlink(from, place.at("texts") + "/" + name).unwrap();
    }
    built(&[&place.at("texts"), "--model", model, "--output", &place.at("texts.lidx")]);
    for row in [0, 6, 7, 11] {
        for (index, of) in [("both.lidx", 0), ("texts.lidx", 5)] {
            let (text, similarity) = find(index, &vector(row, of));
            assert_eq!(text, format!("caption {row}"), "{index}");
            assert!(similarity > 0.999, "{index}: {similarity}");
        }
    }
    assert_eq!(info(&place.at("both.lidx"))["own_keys"], true);
    assert_eq!(info(&place.at("texts.lidx"))["own_keys"], false);
    assert_eq!(info(&place.at("texts.lidx"))["entries"], 11);

    // With pictures alone the captions are encoded, and then the model counts.
    fs::create_dir(place.at("images")).unwrap();
    for name in ["metadata", "img_emb"] {
        let from = oracle("starter") + "/" + name;
        std::os::unix::fs::symlink(from, place.at("images") + "/" + name).unwrap();
    }
    let images = place.at("images");
    built(&[&images, "--output", &place.at("images.lidx")]);
    assert_eq!(find("images.lidx", &vector(7, 0)).0, "caption 7");
    refused(&[&images, "--model", model, "--output", &place.at("x.lidx")], &["text.onnx"]);
    assert!(!Path::new(&place.at(".x.lidx.part")).exists(), "there is nothing to go on from");

    let told = ["the embeddings have 4 dimensions", "have 384", "--model"];
    refused(&[&oracle("clip-retrieval"), "--output", &place.at("x.lidx")], &told);
}

/// 100 captions, some of them repeated or faulty. 80 of them make entries.
fn table() -> String {
    let mut table = "id\tcaption\n".to_owned();
    for n in 0..100 {
        let caption = match n % 10 {
            // What they repeat is in the block before.
            3 if 30 < n => format!("A thing, number {}!", n - 32),
            5 => "a \u{1b}[31mcat".to_owned(),
            7 => "\u{200b}".to_owned() + &"\u{200b}".repeat(n),
            _ => format!("a thing number {n}"),
        };
        table += &format!("{n}\t{caption}\n");
    }
    table
}

/// Runs a build that is killed when a file grows beyond so many blocks of 512 bytes.
fn killed(blocks: u64, args: &[&str]) {
    let mut shell = lookout();
    let program = shell.get_program().to_owned();
    shell = Command::new("sh");
    shell.current_dir(root());
    let script = format!("ulimit -c 0; ulimit -f {blocks}; exec \"$0\" index build \"$@\"");
    let output = shell.arg("-c").arg(script).arg(program).args(args).output().unwrap();
    // SIGXFSZ.
    assert_eq!(output.status.signal(), Some(25), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Names in a folder, hidden ones with them.
fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.0.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_killed_build_goes_on_and_gives_the_same_bytes() {
    let place = Place::new();
    let table = place.write("captions.tsv", table());
    let folder = place.at("folder");
    for (n, picture) in PICTURES.iter().cycle().take(30).enumerate() {
        place.picture(picture, &format!("folder/{n:02}.jpg"));
        // Blocks end within the captions of a picture.
        place.write(&format!("folder/{n:02}.txt"), format!("one {n}\ntwo {n}\nthree {n}"));
    }
    place.write("folder/03.jpg", "no picture");
    // 31 entries are 48 kB of captions, or 95 kB of pairs.
    for (source, places) in [(&table, [1, 60, 100, 215]), (&folder, [50, 190, 290, 370])] {
        let filter = "--drop-near-duplicates";
        let whole = built(&[source, filter, "--output", &place.at("whole.lidx")]);
        for blocks in places {
            let args = [source.as_str(), filter, "--output", &place.at("own.lidx")];
            killed(blocks, &args);
            let part = fs::metadata(place.at(".own.lidx.part")).unwrap();
            assert_eq!(part.len(), blocks * 512, "cut off within a record");
            let resumed = built(&args);
            let report = match resumed.stderr.split_once("entries\n") {
                Some((told, report)) => {
                    assert!(told.starts_with("lookout: going on at "), "{told}");
                    report
                }
                None => &resumed.stderr,
            };
            let is_begun = blocks >= 100;
            assert_eq!(resumed.stderr.contains("going on"), is_begun, "{}", resumed.stderr);
            assert_eq!(report, whole.stderr, "{source} at {blocks}");
            let same = fs::read(place.at("own.lidx")).unwrap()
                == fs::read(place.at("whole.lidx")).unwrap();
            assert!(same, "{source} at {blocks}");
            fs::remove_file(place.at("own.lidx")).unwrap();
        }
        fs::remove_file(place.at("whole.lidx")).unwrap();
    }
    assert_eq!(names(&place), ["captions.tsv", "folder"], "nothing is left behind");
}

#[test]
fn a_build_goes_on_with_what_it_was_begun_with_or_not_at_all() {
    let place = Place::new();
    let table = place.write("captions.tsv", table());
    let output = place.at("own.lidx");
    let args = [table.as_str(), "--output", &output];
    let longer = [&args[..], &["--min-words", "3"]].concat();
    killed(140, &args);
    let part = fs::read(place.at(".own.lidx.part")).unwrap();
    refused(&longer, &["words: then 1 to 1000, now 3 to 1000", "--restart", ".own.lidx.part"]);
    assert_eq!(fs::read(place.at(".own.lidx.part")).unwrap(), part, "it is left as it was");
    // A restart does not go on, and what it gives has nothing of what was there.
    let restarted = built(&[&longer[..], &["--restart"]].concat());
    assert!(!restarted.stderr.contains("going on"), "{}", restarted.stderr);
    let bytes = fs::read(&output).unwrap();
    built(&longer);
    assert_eq!(fs::read(&output).unwrap(), bytes);

    killed(140, &args);
    fs::write(&table, self::table() + "100\tone more\n").unwrap();
    refused(&args, &["files of the source: then 1 of ", "now 1 of ", "--restart"]);
    built(&[&args[..], &["--restart"]].concat());

    // A record that was altered, and what comes after it, is made anew.
    let expected = fs::read(&output).unwrap();
    killed(220, &args);
    let part = fs::read(place.at(".own.lidx.part")).unwrap();
    for at in [8, 12, 20, 3_000, 60_000] {
        let mut altered = part.clone();
        altered[at] ^= 4;
        fs::write(place.at(".own.lidx.part"), altered).unwrap();
        built(&args);
        assert_eq!(fs::read(&output).unwrap(), expected, "{at}");
    }
    place.write(".own.lidx.part", "notes of mine");
    refused(&args, &["no work file"]);
    assert_eq!(fs::read(place.at(".own.lidx.part")).unwrap(), b"notes of mine");
}

#[test]
fn two_builds_do_not_write_one_index() {
    let place = Place::new();
    let table = place.write("captions.tsv", "a cat\n");
    let other = fs::File::create(place.at(".own.lidx.part")).unwrap();
    other.lock().unwrap();
    let args = [table.as_str(), "--output", &place.at("own.lidx")];
    refused(&args, &["own.lidx: another build is writing this index", ".own.lidx.part"]);
    drop(other);
    built(&args);
    assert_eq!(names(&place), ["captions.tsv", "own.lidx"]);
}

#[test]
fn filters_are_counted_and_a_dry_run_tells_the_same() {
    let place = Place::new();
    let captions = "a cat on a mat\nA cat, on a mat.\ncat\na gun on a table\na bus in the rain today\n\
                    Eine Frau sitzt mit ihrem Hund auf einer Bank im Park und liest ein Buch\n\
                    red \x1b[31m\nsome people walk along a street in the evening sun\n";
    let table = place.write("captions.tsv", captions);
    let unwanted = place.write("unwanted.txt", "gun # and the like\n");
    let output = place.at("own.lidx");
    let mut args = vec![table.as_str(), "--output", &output, "--drop-near-duplicates"];
    args.extend(["--min-words", "2", "--max-chars", "100", "--language", "eng"]);
    args.extend(["--unwanted-words", &unwanted]);
    let dry = built(&[&args[..], &["--dry-run", "--json"]].concat()).json().remove(0);
    assert_eq!(names(&place), ["captions.tsv", "unwanted.txt"]);
    let refused_by = json!({"language": 1, "near duplicates": 1, "unwanted words": 1, "words": 1});
    assert_eq!((&dry["entries"], &dry["bad_rows"]), (&json!(3), &json!(1)), "{dry}");
    assert_eq!(dry["refused"], refused_by);
    assert_eq!(
        (&dry["kind"], &dry["keys"], &dry["method"]),
        (&json!("tsv"), &json!("captions"), &json!("exhaustive"))
    );
    let ran = built(&args);
    let told = "refused by filters: 1 language, 1 near duplicates, 1 unwanted words, 1 words\n";
    ran.failed(0, &[told, "captions.tsv:7: the caption has a control character"]);
    assert!(fs::metadata(&output).unwrap().len() <= dry["file_bytes"].as_u64().unwrap(), "{dry}");
    let built = built(&[&args[..], &["--json"]].concat()).json().remove(0);
    assert_eq!((&built["entries"], &built["refused"]), (&json!(3), &refused_by));
    let text = run(&["index", "build", &table, "--dry-run"]).stdout;
    for part in ["nothing was built", "entries          7", "memory ", "to be encoded    captions"]
    {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }

    refused(&[&table, "--output", &output, "--language", "english"], &["\"english\"", "eng"]);
    let empty = ["--min-words", "9", "--max-words", "3"];
    refused(&[&[table.as_str(), "--output", &output], &empty[..]].concat(), &["9 to 3"]);
    refused(
        &[&table, "--output", &place.at("none.lidx"), "--min-words", "90"],
        &["no usable caption in 8 rows, 7 of them refused by filters"],
    );
    assert!(!names(&place).iter().any(|it| it.contains("none")), "{:?}", names(&place));
}

#[test]
fn a_source_that_cannot_be_told_is_to_be_named() {
    let place = Place::new();
    let table = place.write("captions.csv", "a cat\na dog\n");
    let output = place.at("own.lidx");
    refused(
        &[&table, "--output", &output],
        &["captions.csv: cannot tell", "--source", "webdataset"],
    );
    built(&[&table, "--source", "tsv", "--output", &output]);
    refused(&[&table, "--source", "csv", "--output", &output], &["\"csv\"", "embeddings"]);
    place.write("both/1.jpg", "");
    place.write("both/1.tar", "");
    refused(&[&place.at("both"), "--output", &output], &["holds more than one of", "--source"]);
    let pictures = ["--pictures", &place.at("both")];
    let args = [&[table.as_str(), "--source", "tsv", "--output", &output], &pictures[..]].concat();
    refused(&args, &["--pictures", "COCO captions alone"]);
    refused(&[&place.at("gone"), "--output", &output], &["cannot read", "gone"]);
    run(&["index", "build", &table]).failed(1, &["--output"]);
}
