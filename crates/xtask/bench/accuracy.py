"""What int8 costs in accuracy: our embeddings of labelled pictures against the float model's.

    accuracy.py LOOKOUT BUNDLE FLOAT_IMAGE.onnx PICTURES.tsv

PICTURES.tsv has the columns file, source and label; files lie in the folder `pictures` beside it.
Each source with labels is a set of its own, its classes are the labels in it. Pillow and
onnxruntime make the float embeddings, LOOKOUT ours and those of the labels for both, so that only
the image tower differs. Intervals: paired bootstrap, 10,000 samples, fixed seed; where no picture of n is
right with one and wrong with the other, 1 - 0.05^(1/n), as in `lookout eval`.
"""
import csv
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

TEMPLATE = "a photo of a {}"


def float_embeddings(model, spec, files):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for file in files:
        with Image.open(file) as picture:
            picture = ImageOps.exif_transpose(picture).convert("RGB")
        size, scale = spec["size_px"], spec["short_side_px"] / min(picture.size)
        wide, high = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
        left, top = (wide - size) // 2, (high - size) // 2
        values = np.asarray(picture.crop((left, top, left + size, top + size)), np.float32)
        values = (values - np.float32(spec["mean"])) / np.float32(spec["std"])
        values = values.transpose(2, 0, 1) if spec["layout"] == "nchw" else values
        yield session.run(None, {name: values[None]})[0][0]


def our_embeddings(lookout, bundle, arguments):
    command = [lookout, "embed", "--json", "--model", str(bundle), *arguments]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line)["embedding"] for line in lines]


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main(lookout, bundle, float_model, pictures):
    bundle, pictures = Path(bundle), Path(pictures)
    spec = tomllib.loads((bundle / "model.toml").read_text())["image"]
    with pictures.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    files = [str(pictures.parent / "pictures" / row["file"]) for row in rows]
    ours = unit(our_embeddings(lookout, bundle, files))
    theirs = unit(list(float_embeddings(float_model, spec, files)))
    cosines = (ours * theirs).sum(axis=1)
    low, tenth, median = np.quantile(cosines, [0, 0.1, 0.5])
    print(f"cosine of int8 to float, {len(rows)} pictures: "
          f"min {low:.4f}, tenth percentile {tenth:.4f}, median {median:.4f}\n")
    print("| set | pictures | classes | top-1 float | top-1 int8 | difference, 95 % interval |")
    print("| --- | --- | --- | --- | --- | --- |")
    random = np.random.default_rng(0)
    all_differences = []
    for source in dict.fromkeys(row["source"] for row in rows):
        mine = [i for i, row in enumerate(rows) if row["source"] == source and row["label"]]
        classes = sorted({rows[i]["label"] for i in mine})
        if len(classes) < 2:
            continue
        texts = [part for it in classes for part in ("--text", TEMPLATE.format(it))]
        labels = unit(our_embeddings(lookout, bundle, texts))
        truth = np.array([classes.index(rows[i]["label"]) for i in mine])
        right = [(it[mine] @ labels.T).argmax(axis=1) == truth for it in (theirs, ours)]
        differences = right[1].astype(float) - right[0]
        all_differences.append(differences)
        show(source, len(classes), right, differences, random)
    if len(all_differences) > 1:
        show("all", "", None, np.concatenate(all_differences), random)


def show(name, n_classes, right, differences, random):
    n = len(differences)
    if differences.any():
        means = differences[random.integers(0, n, (10_000, n))].mean(axis=1) * 100
        low, high = np.quantile(means, [0.025, 0.975])
    else:
        # Nothing to draw from; Clopper and Pearson bound the share that differs.
        high = 100 * (1 - 0.05 ** (1 / n))
        low = -high
    verdict = ", not distinguishable" if low <= 0 <= high else ""
    top1 = " | ".join(f"{it.mean() * 100:.1f} %" for it in right) if right else " | "
    print(f"| {name} | {n} | {n_classes} | {top1} | "
          f"{differences.mean() * 100:+.1f} points, {low:+.1f} to {high:+.1f}{verdict} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
