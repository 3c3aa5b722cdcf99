//! What cannot be read at all is said before the work.

use super::*;

/// The message of what `spec` is refused with.
#[track_caller]
fn refused(spec: &Spec, parts: &[&str]) {
    let error = chain(&read(spec).unwrap_err());
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn what_is_not_there_or_empty_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_path_buf();
    let missing = path.join("missing");
    for spec in [Spec::Folder, Spec::WebDataset, Spec::Embeddings] {
        refused(&spec(missing.clone()), &["cannot read", "missing"]);
    }
    refused(&coco(&missing), &["cannot read", "captions.json"]);
    refused(&Spec::Folder(path.clone()), &["holds no picture", ".webp"]);
    refused(&Spec::WebDataset(path.clone()), &["holds no file that ends in .tar"]);
    refused(&Spec::Embeddings(path.clone()), &["img_emb_N.npy"]);
    let file = path.join("file.txt");
    fs::write(&file, b"text").unwrap();
    refused(&Spec::Folder(file.clone()), &["must be a folder"]);
    refused(&Spec::Embeddings(file.clone()), &["must be a folder"]);
    refused(&Spec::WebDataset(file), &["must end in .tar"]);
    let tar = path.join("no.tar");
    fs::write(&tar, [b'x'; 2000]).unwrap();
    refused(&Spec::WebDataset(tar), &["no.tar", "has no checksum"]);
    let endless = Spec::Coco { annotations: "/dev/zero".into(), pictures: path };
    refused(&endless, &["/dev/zero", "regular file"]);
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let spoil = |what: &dyn Fn(&Path)| {
        let folder = copy("clip-retrieval");
        what(folder.path());
        let spec = Spec::Embeddings(folder.path().to_path_buf());
        (folder, spec)
    };
    let (_folder, spec) = spoil(&|it| fs::remove_file(it.join("img_emb/img_emb_1.npy")).unwrap());
    refused(&spec, &["shard 1 has no img_emb_N.npy"]);
    let (_folder, spec) =
        spoil(&|it| fs::remove_file(it.join("metadata/metadata_10.parquet")).unwrap());
    refused(&spec, &["shard 10 has no metadata_N.parquet"]);
    let (_folder, spec) = spoil(&|it| {
        fs::copy(it.join("text_emb/text_emb_0.npy"), it.join("text_emb/text_emb_1.npy")).unwrap();
    });
    refused(&spec, &["text_emb_1.npy has 7 rows", "metadata_1.parquet has 5"]);
    let (_folder, spec) = spoil(&|it| {
        fs::copy(it.join("text_emb/text_emb_0.npy"), it.join("text_emb_00.npy")).unwrap();
    });
    refused(&spec, &["text_emb_00.npy and", "text_emb_0.npy are the same shard"]);
    let (_folder, spec) = spoil(&|it| {
        let path = it.join("text_emb/text_emb_10.npy");
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes[..128]).replace("(3, 4)", "(3, 3)");
        fs::write(&path, [text.as_bytes(), &bytes[128..164]].concat()).ok();
    });
    // The magic is no UTF-8.
    refused(&spec, &["text_emb_10.npy", "the file must begin as numpy's do"]);
    let (_folder, spec) = spoil(&|it| {
        let path = it.join("text_emb/text_emb_10.npy");
        let mut bytes = fs::read(&path).unwrap();
        let place = bytes.windows(6).position(|it| it == b"(3, 4)").unwrap();
        bytes[place + 4] = b'3';
        bytes.truncate(164);
        fs::write(&path, bytes).unwrap();
    });
    refused(&spec, &["text_emb_10.npy has embeddings of 3 dimensions", "have 4"]);
}

#[test]
fn other_kinds_of_npy_and_parquet_are_named() {
    let cases = [
        ("fortran.npy", "fortran_order must be False, got True"),
        ("double.npy", "descr must be '<f2' or '<f4', got \"<f8\""),
        ("big-endian.npy", "got \">f4\""),
        ("one-dimension.npy", "shape must be rows and 1 to 4096 dimensions, got [3]"),
        ("object.npy", "got \"|O\""),
        ("gzip.parquet", "has compression GZIP"),
        ("delta.parquet", "has encoding DELTA_BYTE_ARRAY"),
        ("no-caption.parquet", "there is no column `caption` among [\"text\"]"),
        ("list.parquet", "there is no column `caption`"),
        ("number.parquet", "the column `caption` must hold text"),
    ];
    for (name, expected) in cases {
        let folder = copy("flat");
        let target = match name.ends_with(".npy") {
            true => "text_emb_00.npy",
            false => "metadata_00.parquet",
        };
        fs::copy(oracle("refused").join(name), folder.path().join(target)).unwrap();
        refused(&Spec::Embeddings(folder.path().to_path_buf()), &[target, expected]);
    }
}

#[test]
fn an_npy_file_of_another_length_is_refused_before_the_work() {
    let folder = copy("flat");
    let path = folder.path().join("text_emb_02.npy");
    let whole = fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() - 1], &[&whole[..], b"x"].concat()] {
        fs::write(&path, bytes).unwrap();
        let expected = "the file must have the bytes that its header declares";
        let spec = Spec::Embeddings(folder.path().to_path_buf());
        refused(&spec, &["text_emb_02.npy", expected]);
    }
}

#[test]
fn json_that_is_not_coco_is_named() {
    let cases = [
        ("[]", "must begin with `{`, at byte 0"),
        ("{}", "it has no `images`"),
        ("{\"images\": [{\"id\": 1}]}", "it has no `annotations`"),
        ("{\"images\": [{\"id\": 1}", "the file is cut off, at byte 21"),
    ];
    for (text, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("captions.json"), text).unwrap();
        refused(&coco(folder.path()), &["captions.json", expected]);
    }
}
