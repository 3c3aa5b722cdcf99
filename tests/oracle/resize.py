#!/usr/bin/env python3
"""Makes the pixels that the resize rules are checked against, by the programs that models are used
with: transformers' image processors on Pillow, and open_clip's transforms. Shares no code with ours.

    python3 -m venv venv && venv/bin/pip install open_clip_torch transformers
    venv/bin/python tests/oracle/resize.py             # from the repository's root

Writes tests/oracle/resize/: for each rule a picture in which, for each of some pictures of the
starter, the first, the middle and the last four rows of what the model sees lie below each other.
"""
from pathlib import Path

import numpy as np
import transformers
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/oracle/resize"
PICTURES = [
    "coco_000000000285", "coco_000000000872", "coco_000000012280", "coco_000000020247",
    "coco_000000030213", "coco_000000062554", "coco_000000099053", "coco_000000116479",
]
BICUBIC, BILINEAR, LANCZOS = 3, 2, 1


def by_transformers(processor, **options):
    processor = processor(do_rescale=False, do_normalize=False, **options)

    def run(picture):
        values = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0])
        return values.transpose(1, 2, 0).astype(np.uint8)

    return run


def by_open_clip(**options):
    transform = image_transform_v2(PreprocessCfg(mean=(0, 0, 0), std=(1, 1, 1), **options), is_train=False)

    def run(picture):
        values = np.asarray(transform(picture)).transpose(1, 2, 0) * 255
        return np.rint(values).astype(np.uint8)

    return run


def clip(size, resample):
    return by_transformers(
        CLIPImageProcessorPil, size={"shortest_edge": size}, resample=resample,
        crop_size={"height": size, "width": size})


RULES = {
    "transformers-clip-224": clip(224, BICUBIC),
    "open-clip-224": by_open_clip(size=224),
    "transformers-mobileclip-256": clip(256, BILINEAR),
    "open-clip-bilinear-96": by_open_clip(size=96, interpolation="bilinear"),
    "transformers-siglip-224": by_transformers(
        SiglipImageProcessorPil, size={"height": 224, "width": 224}, resample=BICUBIC),
    "open-clip-siglip-256": by_open_clip(size=256, resize_mode="squash"),
    "transformers-lanczos-224": clip(224, LANCZOS),
}


def main():
    OUT.mkdir(exist_ok=True)
    for name, rule in RULES.items():
        strips = []
        for stem in PICTURES:
            with Image.open(ROOT / f"models/starter/pictures/{stem}.jpg") as picture:
                square = rule(ImageOps.exif_transpose(picture).convert("RGB"))
            middle = square.shape[0] // 2 - 2
            strips += [square[:4], square[middle:middle + 4], square[-4:]]
        Image.fromarray(np.concatenate(strips)).save(OUT / f"{name}.png", optimize=True)
    print("transformers", transformers.__version__)


if __name__ == "__main__":
    main()
