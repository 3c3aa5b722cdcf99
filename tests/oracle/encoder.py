#!/usr/bin/env python3
"""Makes the reference values that the encoder is checked against. Shares no code with it.

    python3 -m venv venv && venv/bin/pip install numpy onnxruntime pillow tokenizers
    venv/bin/python tests/oracle/encoder.py            # from the repository's root

Writes models/<bundle>/golden.json, tests/oracle/encoder-captions.json and tests/oracle/pictures/.
Pillow decodes and resizes, onnxruntime runs the models with its graph optimization off (its
optimizer moves the result of DequantizeLinear + MatMul), tokenizers makes the tokens. After a
change of golden.json or of a picture its hash in model.toml has to follow.
"""
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
import tokenizers
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[2]
ORACLE = ROOT / "tests/oracle"
GOLDEN_TEXTS = [
    "a cat", "a photo of a dog", "a picture of a person", "a red bus on a street", "bicycle",
    "an empty room", "an empty street at night", "a delivery van in front of a house",
    "a bird on a branch", "a bowl of fruit on a table", "traffic light", "a laptop computer",
    "a train at a station", "snow", "a boat on the water", "A ZEBRA", "a stop sign.",
    "two giraffes next to a tree", "a kitchen with a refrigerator", "a tennis player",
]
ODD_CAPTIONS = [
    "A Café with naïve façade & jalapeños",
    "  white space   around\tand inside\n",
    "NEW YORK, N.Y.: 5'10\" (man) — $3.50!",
    "猫が椅子に座っている",
    "smile 😀 and a cat",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "a man and " * 40 + "a dog",
    "x",
    "[SEP] a [MASK] cat",
    "don't won't it's 1234567890 http://example.org/a_b?c=d",
]


def made_by():
    return {
        "onnxruntime": onnxruntime.__version__ + ", graph optimization off",
        "pillow": PIL.__version__,
        "tokenizers": tokenizers.__version__,
        "numpy": np.__version__,
        "script": "tests/oracle/encoder.py",
    }


def session(path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def crop(picture, size, short_side):
    """Short side to `short_side`, bicubic; the long side rounded half to even; the middle."""
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    scale = short_side / min(picture.size)
    wide, high = (max(size, round(side * scale)) for side in picture.size)
    picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - size) // 2, (high - size) // 2
    return picture.crop((left, top, left + size, top + size))


class Bundle:
    def __init__(self, folder):
        self.folder = folder
        self.toml = tomllib.loads((folder / "model.toml").read_text())
        self.image_spec, self.text_spec = self.toml["image"], self.toml["text"]
        self.image = session(folder / self.image_spec["file"])
        self.text = session(folder / self.text_spec["file"])
        # Truncation and padding are those of the file itself.
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / self.text_spec["tokenizer"]))

    def crop(self, path):
        spec = self.image_spec
        with Image.open(path) as picture:
            return crop(picture, spec["size_px"], spec["short_side_px"])

    def encode_image(self, path):
        spec = self.image_spec
        values = np.asarray(self.crop(path), np.float32)
        values = (values - np.float32(spec["mean"])) / np.float32(spec["std"])
        values = values.transpose(2, 0, 1) if spec["layout"] == "nchw" else values
        return self.image.run([spec["output"]], {spec["input"]: values[None]})[0][0]

    def encode_text(self, text):
        spec = self.text_spec
        tokens = self.tokenizer.encode(text.strip() if spec["strip"] else text)
        inputs = {spec["ids_input"]: np.int64([tokens.ids])}
        if "mask_input" in spec:
            inputs[spec["mask_input"]] = np.int64([tokens.attention_mask])
        return self.text.run([spec["output"]], inputs)[0][0]


def sample(name, embedding):
    return {"name": name, "embedding": [float(f"{it:.7g}") for it in embedding]}


def write(path, fields):
    """JSON with one sample a line."""
    lines = []
    for key, value in fields.items():
        if isinstance(value, list):
            rows = ",\n".join(json.dumps(it, ensure_ascii=False, separators=(",", ":")) for it in value)
            value = f"[\n{rows}\n]"
        else:
            value = json.dumps(value)
        lines.append(f"{json.dumps(key)}: {value}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def captions(folder):
    rows = [it.split("\t") for it in (folder / "pictures/pictures.tsv").read_text().splitlines()]
    column = rows[0].index("captions")
    return [row[column].split(" || ")[0] for row in rows[1:]]


def odd_pictures(source, folder):
    """Encodings that differ from the common one, and what they have to become after the
    preprocessing of a small model (16-pixel square out of a short side of 20)."""
    folder.mkdir(exist_ok=True)
    with Image.open(source) as picture:
        small = picture.convert("RGB").resize((61, 43), Image.Resampling.LANCZOS)
    turned = Image.Exif()
    turned[0x0112] = 6
    alpha = small.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(small.size))
    bands = Image.linear_gradient("L").resize((2000, 3)).convert("RGB")
    cases = {
        "plain.jpg": (small, {"quality": 90}),
        "gray.jpg": (small.convert("L"), {"quality": 90}),
        "cmyk.jpg": (small.convert("CMYK"), {"quality": 90}),
        "progressive.jpg": (small, {"quality": 90, "progressive": True}),
        "subsampled-444.jpg": (small, {"quality": 90, "subsampling": 0}),
        "subsampled-422.jpg": (small, {"quality": 90, "subsampling": 1}),
        "restart.jpg": (small, {"quality": 90, "restart_marker_blocks": 2}),
        "turned.jpg": (small, {"quality": 90, "exif": turned}),
        "rgb.png": (small, {}),
        "alpha.png": (alpha, {}),
        "palette.png": (small.quantize(16), {}),
        "gray.png": (small.convert("L"), {}),
        "one-bit.png": (small.convert("1"), {}),
        "lossless.webp": (small, {"lossless": True}),
        "lossy.webp": (small, {"quality": 90}),
        "rgb.bmp": (small, {}),
        "palette.gif": (small.quantize(64), {}),
        "one-pixel.png": (small.crop((5, 5, 6, 6)), {}),
        "wide.png": (bands, {}),
        "tall.png": (bands.transpose(Image.Transpose.ROTATE_90), {}),
    }
    for name, (picture, options) in cases.items():
        path = folder / name
        picture.save(path, **options)
        with Image.open(path) as saved:
            crop(saved, 16, 20).save(folder / f"{path.name}.crop.png", optimize=True)


def main():
    folder = ROOT / "models" / (sys.argv[1] if 1 < len(sys.argv) else "starter")
    bundle = Bundle(folder)
    pictures = sorted((folder / "pictures").glob("*.jpg"))
    golden = {
        "made_by": made_by(),
        "pictures": [sample(it.name, bundle.encode_image(it)) for it in pictures],
        "texts": [sample(it, bundle.encode_text(it)) for it in GOLDEN_TEXTS],
    }
    write(folder / "golden.json", golden)
    texts = captions(folder) + ODD_CAPTIONS
    write(
        ORACLE / "encoder-captions.json",
        {"made_by": made_by(), "texts": [sample(it, bundle.encode_text(it)) for it in texts]},
    )
    odd = ORACLE / "pictures"
    odd_pictures(pictures[0], odd)
    for path in pictures[:3]:
        bundle.crop(path).save(odd / f"{path.stem}.crop.png", optimize=True)


if __name__ == "__main__":
    main()
