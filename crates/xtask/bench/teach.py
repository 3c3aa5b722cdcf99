"""What one taught picture corrects, and what it changes elsewhere.

    teach.py LOOKOUT BUNDLE PICTURES.tsv LABELS.toml

PICTURES.tsv has the columns file and labels (names of LABELS.toml that are right, with `|` between them; or label, one of them); files
lie in the folder `pictures` beside it. Every picture whose top label is wrong is taught, by itself: "there
is a NAME here", with its first right name. Then other views of its scene are classified (crops, angles,
lights, noise; none is one of those that `lookout teach` makes keys of), and all other pictures as they are.
"""
import csv
import json
import random
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

MIN_SIDE = 200


def crop(picture, share):
    (wide, high), (w, h) = picture.size, (int(side * share) for side in picture.size)
    left, top = random.randint(0, wide - w), random.randint(0, high - h)
    return picture.crop((left, top, left + w, top + h))


def angle(picture, depth):
    wide, high = picture.size
    inset = depth * min(wide, high)
    corners = [(0, 0), (0, high), (wide, high), (wide, 0)]
    quad = []
    for x, y in corners:
        quad += [abs(x - random.uniform(0, 2 * inset)), abs(y - random.uniform(0, 2 * inset))]
    return picture.transform((wide, high), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)


def tint(picture, red, blue):
    return Image.fromarray((np.asarray(picture) * [red, 1.0, blue]).clip(0, 255).astype(np.uint8))


def noise(picture, deviation):
    values = np.asarray(picture) + np.random.default_rng(0).normal(0, deviation, (*picture.size[::-1], 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def views(picture):
    darker = ImageEnhance.Brightness(picture).enhance
    return {
        "crop to 0.9": crop(picture, 0.9),
        "crop to 0.8": crop(picture, 0.8),
        "crop to 0.65": crop(picture, 0.65),
        "crop to 0.5": crop(picture, 0.5),
        "angle": angle(picture, 0.06),
        "steeper angle": angle(picture, 0.12),
        "warm light": tint(picture, 1.25, 0.75),
        "cold light": tint(picture, 0.8, 1.2),
        "night": noise(darker(0.3), 8),
        "noise": noise(picture, 15),
        "out of focus": picture.filter(ImageFilter.GaussianBlur(2)),
        "gray": ImageOps.grayscale(picture).convert("RGB"),
        "angle, dusk, noise": noise(darker(0.7).transform(picture.size, Image.Transform.AFFINE,
                                                         (0.94, 0.03, 0, 0.02, 0.95, 0)), 5),
    }


class Program:
    def __init__(self, lookout, bundle, labels):
        self.lookout, self.bundle, self.labels = lookout, str(bundle), str(labels)

    def run(self, verb, *arguments):
        command = [self.lookout, verb, "--model", self.bundle, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"lookout {verb} failed: {done.stderr}")
        return done.stdout

    def classify(self, files, *options):
        lines = self.run("classify", "--json", "--labels", self.labels, *options, *files).splitlines()
        return [max(it["scores"], key=it["scores"].get) for it in map(json.loads, lines)]

    def teach(self, taught, caption, file):
        self.run("teach", "--taught", taught, "--caption", caption, file)


def main(lookout, bundle, pictures, labels):
    random.seed(0)
    program, pictures = Program(lookout, bundle, labels), Path(pictures)
    names = {it["name"]: it["id"] for it in tomllib.loads(Path(labels).read_text())["label"]}
    with pictures.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    files = [pictures.parent / "pictures" / row["file"] for row in rows]
    right = [[it.strip() for it in (row.get("labels") or row.get("label") or "").split("|")] for row in rows]
    right = [[it for it in mine if it in names] for mine in right]
    before = program.classify(files, "--no-taught")
    is_right = [got in [names[it] for it in mine] for got, mine in zip(before, right)]
    wrong = [i for i, mine in enumerate(right) if mine and not is_right[i]]
    n_views, n_before, n_after, by_view = 0, 0, 0, {}
    changed = {"right, now wrong": 0, "wrong, now right": 0, "wrong, now wrong otherwise": 0,
               "unlabelled": 0}
    n_elsewhere = n_taught = 0
    with tempfile.TemporaryDirectory() as folder:
        taught = Path(folder) / "taught"
        for i in wrong:
            with Image.open(files[i]) as picture:
                picture = ImageOps.exif_transpose(picture).convert("RGB")
            if min(picture.size) < MIN_SIDE:
                continue
            n_taught += 1
            mine, paths = views(picture), []
            for k, view in enumerate(mine.values()):
                paths.append(Path(folder) / f"{k}.jpg")
                view.save(paths[-1], quality=85)
            taught.unlink(missing_ok=True)
            program.teach(taught, f"there is a {right[i][0]} here", files[i])
            good = {names[it] for it in right[i]}
            plain = program.classify(paths, "--no-taught")
            got = program.classify([*paths, *files], "--taught", str(taught))
            n_views += len(paths)
            n_before += sum(it in good for it in plain)
            n_after += sum(it in good for it in got[:len(paths)])
            for name, it in zip(mine, got):
                by_view.setdefault(name, []).append(it in good)
            for j, it in enumerate(got[len(paths):]):
                if j == i:
                    continue
                n_elsewhere += 1
                if it != before[j]:
                    is_now = it in [names[name] for name in right[j]]
                    key = ("unlabelled" if not right[j] else "right, now wrong" if is_right[j] and not is_now
                           else "wrong, now right" if is_now and not is_right[j]
                           else "wrong, now wrong otherwise" if not is_right[j] else None)
                    if key:
                        changed[key] += 1
    labelled = sum(1 for it in right if it)
    print(f"{labelled} pictures with labels, {len(wrong)} wrong, {n_taught} of them large enough and taught, "
          f"one at a time\n")
    if n_taught == 0:
        return
    print(f"other views of their scenes right: {n_before} of {n_views} before ({n_before / n_views:.1%}), "
          f"{n_after} after ({n_after / n_views:.1%})")
    for name, it in by_view.items():
        print(f"    {name}: {sum(it)} of {len(it)}")
    total = sum(changed.values())
    print(f"\nother pictures: {total} of {n_elsewhere} changed ({total / n_elsewhere:.2%})")
    for name, n in changed.items():
        print(f"    {name}: {n}")


if __name__ == "__main__":
    main(*sys.argv[1:])
