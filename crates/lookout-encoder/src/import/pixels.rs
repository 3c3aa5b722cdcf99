//! What the model's own files say about preparing a picture.

use serde_json::Value;

use super::json::{Faults, Object, count, number};
use crate::preprocess::{Filter, Resize, Rounding};

/// A picture's way to the image tower, as the manifest will have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pixels {
    pub(crate) size_px: u32,
    pub(crate) resize: Resize,
    pub(crate) filter: Filter,
    /// For values of 0 to 255.
    pub(crate) mean: [f64; 3],
    pub(crate) std: [f64; 3],
}

/// The largest side of a square, in pixels; what a manifest may say.
const MAX_SIZE_PX: u32 = 4096;
const TRIPLE: &str = "3 finite numbers";
const POSITIVES: &str = "3 numbers greater than 0";

/// OpenAI's values, which open_clip takes where a file names none.
const OPENAI_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const OPENAI_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

impl Pixels {
    /// Reads `preprocessor_config.json` of transformers, wholly.
    pub(crate) fn from_transformers(mut json: Object, faults: &mut Faults) -> Option<Self> {
        let before = faults.0.len();
        let mut kind = String::new();
        for key in ["image_processor_type", "feature_extractor_type"] {
            let rule = "an image processor of CLIP or SigLIP";
            let known = |it: &Value| {
                let name = it.as_str()?;
                let base = name.strip_suffix("Fast").unwrap_or(name);
                let known = [
                    "CLIPImageProcessor",
                    "CLIPFeatureExtractor",
                    "SiglipImageProcessor",
                    "CLIPImageProcessorPil",
                    "SiglipImageProcessorPil",
                ];
                known.contains(&base).then(|| name.to_owned())
            };
            if let Some(name) = json.get(key, rule, faults, known) {
                kind = name;
            }
        }
        // These say which class reads the file, and how it hands over the same values.
        for key in ["processor_class", "_valid_processor_keys", "default_to_square"] {
            json.take(key);
        }
        json.get("do_convert_rgb", "true or false", faults, Value::as_bool);
        json.get("data_format", "\"channels_first\"", faults, |it| {
            (it.as_str() == Some("channels_first")).then_some(())
        });
        for key in ["do_pad", "do_flip_channel_order"] {
            json.get(key, "false", faults, |it| (it.as_bool() == Some(false)).then_some(()));
        }
        let must = |json: &mut Object, key, faults: &mut Faults| {
            json.get(key, "true", faults, |it| (it.as_bool() == Some(true)).then_some(()));
        };
        must(&mut json, "do_resize", faults);
        let rescales = json.flag("do_rescale", faults).unwrap_or(true);
        let factor = json.get("rescale_factor", "a number greater than 0", faults, |it| {
            number(it).filter(|it| 0.0 < *it)
        });
        let factor = if rescales { factor.unwrap_or(1.0 / 255.0) } else { 1.0 };
        let normalizes = json.flag("do_normalize", faults).unwrap_or(true);
        let mean = json.get("image_mean", TRIPLE, faults, triple);
        let std = json.get("image_std", POSITIVES, faults, positives);
        let (mean, std) = match (normalizes, mean, std) {
            (false, ..) => ([0.0; 3], [1.0; 3]),
            (true, Some(mean), Some(std)) => (mean, std),
            (true, mean, std) => {
                for (key, value) in [("image_mean", mean), ("image_std", std)] {
                    if value.is_none() && faults.0.len() == before {
                        faults.add(json.key(key), TRIPLE, "nothing");
                    }
                }
                return None;
            }
        };
        let filter = json.get("resample", "1, 2 or 3 (Lanczos, bilinear, bicubic)", faults, |it| {
            Some(match it.as_u64()? {
                1 => Filter::Lanczos,
                2 => Filter::Bilinear,
                3 => Filter::Bicubic,
                _ => return None,
            })
        });
        if filter.is_none() && faults.0.len() == before {
            faults.add(json.key("resample"), "1, 2 or 3", "nothing");
        }
        let size = json.take("size");
        let crops = json.flag("do_center_crop", faults).unwrap_or(kind.starts_with("CLIP"));
        let crop = json.get("crop_size", SQUARE, faults, square);
        // Their classes that run on torchvision round the crop's offset as torchvision does.
        let offset = if kind.ends_with("Fast") { Rounding::HalfEven } else { Rounding::Floor };
        let resize = Self::resize(&json, size, crops.then_some(crop), &kind, offset, faults);
        json.finish(faults);
        let (size_px, resize) = resize?;
        let scaled = |it: [f64; 3]| it.map(|it| it / factor);
        let (mean, std) = (scaled(mean), scaled(std));
        (faults.0.len() == before).then_some(())?;
        Some(Self { size_px, resize, filter: filter?, mean, std })
    }

    /// `crop` is none where nothing is cropped.
    fn resize(
        json: &Object,
        size: Option<Value>,
        crop: Option<Option<u32>>,
        kind: &str,
        offset: Rounding,
        faults: &mut Faults,
    ) -> Option<(u32, Resize)> {
        let key = json.key("size");
        let rule = "{\"shortest_edge\": N}, {\"height\": N, \"width\": N} or N, N up to 4096";
        let Some(size) = size else {
            faults.add(key, rule, "nothing");
            return None;
        };
        let keys: Vec<&str> =
            size.as_object().map_or(Vec::new(), |it| it.keys().map(String::as_str).collect());
        let short_side = match keys[..] {
            ["shortest_edge"] => count(&size["shortest_edge"]),
            // CLIP's older files have a bare number for the short side, SigLIP's for both.
            [] if !kind.starts_with("Siglip") => count(&size),
            _ => None,
        };
        if let Some(short_side_px) = short_side.filter(|it| *it <= 2 * MAX_SIZE_PX) {
            let Some(size_px) = crop.flatten().filter(|it| *it <= MAX_SIZE_PX) else {
                let rule = "the side of the square to cut out, with do_center_crop";
                faults.add(json.key("crop_size"), rule, "nothing");
                return None;
            };
            if short_side_px < size_px {
                let rule = format!("at most `size`, {short_side_px}: a border is not added");
                faults.add(json.key("crop_size"), rule, size_px);
                return None;
            }
            let long_side = Rounding::Floor;
            return Some((size_px, Resize::ShortSide { short_side_px, long_side, crop: offset }));
        }
        let Some(size_px) = square(&size).filter(|it| *it <= MAX_SIZE_PX) else {
            faults.add(key, rule, size);
            return None;
        };
        if let Some(crop) = crop.flatten().filter(|it| *it != size_px) {
            faults.add(json.key("crop_size"), format!("{size_px}, as `size`"), crop);
            return None;
        }
        Some((size_px, Resize::Exact))
    }

    /// Reads open_clip's `preprocess_cfg`, wholly. `image_size` is that of the model's
    /// configuration.
    pub(crate) fn from_open_clip(
        mut json: Object,
        image_size: Option<u32>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let before = faults.0.len();
        let size_px = json.get("size", SQUARE, faults, pair).or(image_size);
        let size_px = size_px.filter(|it| *it <= MAX_SIZE_PX);
        if size_px.is_none() && faults.0.len() == before {
            faults.add(json.key("size"), "the side of the square, up to 4096", "nothing");
        }
        json.get("mode", "\"RGB\"", faults, |it| (it.as_str() == Some("RGB")).then_some(()));
        // It fills a border, which neither of the two ways to resize adds.
        json.take("fill_color");
        let mean = json.get("mean", TRIPLE, faults, triple).unwrap_or(OPENAI_MEAN);
        let std = json.get("std", POSITIVES, faults, positives).unwrap_or(OPENAI_STD);
        let filter =
            json.get("interpolation", "\"bicubic\" or \"bilinear\"", faults, |it| {
                match it.as_str()? {
                    "bicubic" => Some(Filter::Bicubic),
                    "bilinear" => Some(Filter::Bilinear),
                    _ => None,
                }
            });
        let squashes = json.get("resize_mode", "\"shortest\" or \"squash\"", faults, |it| match it
            .as_str(
        )? {
            "shortest" => Some(false),
            "squash" => Some(true),
            _ => None,
        });
        json.finish(faults);
        let size_px = size_px?;
        let resize = if squashes.unwrap_or(false) {
            Resize::Exact
        } else {
            Resize::ShortSide {
                short_side_px: size_px,
                long_side: Rounding::Floor,
                crop: Rounding::HalfEven,
            }
        };
        let scaled = |it: [f64; 3]| it.map(|it| it * 255.0);
        (faults.0.len() == before).then_some(Self {
            size_px,
            resize,
            filter: filter.unwrap_or(Filter::Bicubic),
            mean: scaled(mean),
            std: scaled(std),
        })
    }
}

const SQUARE: &str = "the side of a square: N, or {\"height\": N, \"width\": N}";

fn square(value: &Value) -> Option<u32> {
    let Some(object) = value.as_object() else { return count(value) };
    let side = |key| object.get(key).and_then(count);
    let (height, width) = (side("height")?, side("width")?);
    (height == width && object.len() == 2).then_some(height)
}

fn pair(value: &Value) -> Option<u32> {
    let Some([height, width]) = value.as_array().map(Vec::as_slice) else { return count(value) };
    let (height, width) = (count(height)?, count(width)?);
    (height == width).then_some(height)
}

fn triple(value: &Value) -> Option<[f64; 3]> {
    let list: Option<Vec<f64>> = value.as_array()?.iter().map(number).collect();
    list?.try_into().ok()
}

fn positives(value: &Value) -> Option<[f64; 3]> {
    triple(value).filter(|it| it.iter().all(|it| 0.0 < *it))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &str, open_clip: bool) -> Result<Pixels, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("p.json"), text).unwrap();
        let mut faults = Faults::default();
        let json = Object::read(dir.path(), "p.json", &mut faults).unwrap();
        let pixels = json.and_then(|json| {
            if open_clip {
                Pixels::from_open_clip(json, Some(224), &mut faults)
            } else {
                Pixels::from_transformers(json, &mut faults)
            }
        });
        match pixels {
            Some(pixels) if faults.0.is_empty() => Ok(pixels),
            _ => Err(faults.0.iter().map(ToString::to_string).collect()),
        }
    }

    const CLIP: &str = r#"{"crop_size":{"height":224,"width":224},"do_center_crop":true,
        "do_convert_rgb":true,"do_normalize":true,"do_rescale":true,"do_resize":true,
        "image_mean":[0.5,0.25,0.125],"image_processor_type":"CLIPImageProcessor",
        "image_std":[0.5,0.25,0.2],"resample":3,"rescale_factor":0.00392156862745098,
        "size":{"shortest_edge":256}}"#;

    #[test]
    fn each_form_of_the_file_has_its_rule() {
        let pixels = read(CLIP, false).unwrap();
        let short_side = |short_side_px, crop| Resize::ShortSide {
            short_side_px,
            long_side: Rounding::Floor,
            crop,
        };
        assert_eq!((pixels.size_px, pixels.filter), (224, Filter::Bicubic));
        assert_eq!(pixels.resize, short_side(256, Rounding::Floor));
        assert!((pixels.mean[1] - 63.75).abs() < 1e-9 && (pixels.std[2] - 51.0).abs() < 1e-9);

        let fast = CLIP.replace("CLIPImageProcessor", "CLIPImageProcessorFast");
        assert_eq!(read(&fast, false).unwrap().resize, short_side(256, Rounding::HalfEven));
        let siglip = r#"{"do_normalize":true,"do_rescale":true,"do_resize":true,
            "image_mean":[0.5,0.5,0.5],"image_processor_type":"SiglipImageProcessor",
            "image_std":[0.5,0.5,0.5],"resample":2,"size":{"height":384,"width":384}}"#;
        let pixels = read(siglip, false).unwrap();
        assert_eq!((pixels.size_px, pixels.resize), (384, Resize::Exact));
        assert_eq!((pixels.mean, pixels.filter), ([127.5; 3], Filter::Bilinear));
        // Nothing is normalized, but still divided by 255.
        let plain = CLIP.replace("\"do_normalize\":true", "\"do_normalize\":false");
        let pixels = read(&plain, false).unwrap();
        assert!((pixels.std[0] - 255.0).abs() < 1e-9 && pixels.mean[0].abs() < 1e-9);

        let pixels = read(r#"{"size":[64,64],"mode":"RGB"}"#, true).unwrap();
        assert_eq!((pixels.size_px, pixels.resize), (64, short_side(64, Rounding::HalfEven)));
        assert!((pixels.mean[0] - 122.770_938_3).abs() < 1e-6);
        let pixels =
            read(r#"{"mean":[0,0,0],"std":[1,1,1],"resize_mode":"squash"}"#, true).unwrap();
        assert_eq!((pixels.size_px, pixels.resize), (224, Resize::Exact));
    }

    #[test]
    fn what_cannot_be_honored_is_refused() {
        for (from, to, fault) in [
            (
                "\"do_resize\":true",
                "\"do_resize\":false",
                "`p.json: do_resize` must be true, got false",
            ),
            ("\"resample\":3", "\"resample\":0", "`p.json: resample` must be 1, 2 or 3 (Lanczos,"),
            ("{\"shortest_edge\":256}", "{\"longest_edge\":256}", "`p.json: size` must be"),
            ("{\"shortest_edge\":256}", "200", "`p.json: crop_size` must be at most `size`, 200"),
            ("\"width\":224", "\"width\":225", "`p.json: crop_size` must be the side of a square"),
            (
                "0.5,0.25,0.2]",
                "0.5,0.25,0]",
                "`p.json: image_std` must be 3 numbers greater than 0",
            ),
            ("CLIPImageProcessor", "ConvNextImageProcessor", "`p.json: image_processor_type` must"),
            (
                "\"do_resize\"",
                "\"crop_pct\":0.9,\"do_resize\"",
                "`p.json: crop_pct` must be removed",
            ),
            ("\"do_resize\"", "\"do_pad\":true,\"do_resize\"", "`p.json: do_pad` must be false"),
            (
                "0.00392156862745098",
                "-1",
                "`p.json: rescale_factor` must be a number greater than 0",
            ),
        ] {
            assert!(CLIP.contains(from));
            let faults = read(&CLIP.replace(from, to), false).unwrap_err();
            assert!(faults[0].starts_with(fault), "{to}: {faults:?}");
        }
        let two = CLIP.replace("\"resample\":3", "\"resample\":9,\"x\":1");
        assert_eq!(read(&two, false).unwrap_err().len(), 2);
        for (text, fault) in [
            (r#"{"resize_mode":"longest"}"#, "`p.json: resize_mode` must be"),
            (r#"{"interpolation":"random"}"#, "`p.json: interpolation` must be"),
            (r#"{"mode":"L"}"#, "`p.json: mode` must be \"RGB\""),
            (r#"{"crop":1}"#, "`p.json: crop` must be removed"),
            ("[]", "`p.json` must be a JSON object"),
            ("{", "`p.json` must be valid JSON"),
        ] {
            let faults = read(text, true).unwrap_err();
            assert!(faults[0].starts_with(fault), "{text}: {faults:?}");
        }
    }
}
