//! COCO's captions.
#![no_main]

use std::fs;

use fuzz::{begin, folder, oracle, source};
use libfuzzer_sys::fuzz_target;
use lookout_sources::Spec;

fn seeds() -> Vec<Vec<u8>> {
    let small = br#"{"images":[{"id":1,"file_name":"a.jpg"}],"annotations":[{"image_id":1,"caption":"a"}]}"#;
    vec![oracle("coco/captions.json"), small.to_vec()]
}

fuzz_target!(init: begin(seeds), |input: &[u8]| {
    let annotations = folder().join("captions.json");
    fs::write(&annotations, input).expect("the file can be written");
    source::read(&Spec::Coco { annotations, pictures: folder().to_path_buf() });
});
