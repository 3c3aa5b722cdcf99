"""A stream whose changes are known, and what a camera makes of it by different rules.

    stream.py LOOKOUT BUNDLE OUTPUT [SCENES.tsv]

SCENES.tsv has the columns file and truth (a label, or none for a scene that shows none of them); files lie
beside it or in its folder `pictures`. Without one, scenes of the starter's own sample pictures are used.
OUTPUT is a folder: the frames with frames.tsv, a part with nothing in it but the empty scenes
(`background`), the configuration, and the page of the replay.

The camera looks at an empty scene; now and then something is there, for a few seconds or a minute, and
sometimes something else after it. It pans slowly and trembles; in an hour it is day and night once, which
takes light and color and adds noise; its exposure jumps.
"""
import csv
import json
import math
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
from PIL import Image

SEED = 5
FPS = 2
SECONDS = 3600
BACKGROUND_SECONDS = 3600
SIZE = (320, 240)
QUALITY = 80
# Files of the starter; what each shows is in the captions of its table.
STARTER = {
    "none": ["coco_000000408805.jpg"],
    "bear": ["coco_000000000285.jpg", "coco_000000020247.jpg", "coco_000000229997.jpg"],
    "bus": ["coco_000000252639.jpg", "coco_000000568290.jpg"],
    "cat": ["coco_000000358083.jpg"],
    "dog": ["coco_000000377575.jpg"],
    "horse": ["coco_000000214753.jpg"],
    "motorcycle": ["coco_000000165518.jpg"],
    "elephant": ["coco_000000519208.jpg"],
}
NEGATIVES = ["empty room"]
# Each frame by itself: what is accepted is shown, and given up below the same score.
NO_TIME = "decision.smoothing_s=0; decision.dwell_s=0; decision.cooldown_s=0; decision.exit={enter}"
TIME = "decision.smoothing_s=2; decision.dwell_s=1; decision.cooldown_s=5"
CALIBRATION = "calibration=calibration"
RULES = {
    "nothing": NO_TIME,
    "time and hysteresis": TIME,
    "calibration": f"{NO_TIME}; {CALIBRATION}",
    "calibration, time and hysteresis": f"{TIME}; {CALIBRATION}",
}


def scenes(bundle, table):
    """Label to pictures; `none` are the empty scenes."""
    found = {}
    if table is None:
        folder = Path(bundle) / "pictures"
        rows = [(name, truth) for truth, names in STARTER.items() for name in names]
    else:
        folder = Path(table).parent
        folder = folder / "pictures" if (folder / "pictures").is_dir() else folder
        with open(table, newline="") as file:
            rows = [(it["file"], it["truth"]) for it in
                    csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if it["truth"]]
    for name, truth in rows:
        with Image.open(folder / name) as picture:
            picture = picture.convert("RGB")
            scale = 1.4 * max(SIZE[0] / picture.width, SIZE[1] / picture.height)
            size = (math.ceil(picture.width * scale), math.ceil(picture.height * scale))
            found.setdefault(truth, []).append(picture.resize(size, Image.Resampling.BICUBIC))
    if "none" not in found or len(found) < 2:
        sys.exit("there must be scenes with truth none, and of at least one label")
    return found


def acts(rng, found, seconds):
    """(from, to, truth, picture), one after the other."""
    labels = sorted(it for it in found if it != "none")
    at, last, plan = 0.0, None, []
    while at < seconds:
        there = last == "none" or (last is not None and rng.random() < 0.25)
        truth = rng.choice([it for it in labels if it != last]) if there and len(labels) > 1 else (
            labels[0] if there else "none")
        if truth == last:
            truth = "none"
        length = rng.uniform(20, 90) if truth == "none" else (
            rng.uniform(4, 8) if rng.random() < 0.2 else rng.uniform(12, 60))
        length = round(length * FPS) / FPS
        plan.append((at, min(at + length, seconds), str(truth), found[truth][rng.integers(len(found[truth]))]))
        at, last = at + length, truth
    return plan


class Camera:
    def __init__(self, rng):
        self.rng = rng
        self.noise = rng.normal(0, 1, (2 * SIZE[1], 2 * SIZE[0], 3)).astype(np.float32)
        self.exposure, self.jump_until = 1.0, 0.0

    def shoot(self, at, act):
        begin, end, _, picture = act
        if self.jump_until <= at:
            jumps = self.rng.random() < 1 / (60 * FPS)
            self.exposure = self.rng.choice([0.5, 1.7]) if jumps else 1.0
            self.jump_until = at + (self.rng.uniform(0.5, 3) if jumps else 0)
        share = (at - begin) / max(end - begin, 1)
        room = (picture.width - SIZE[0], picture.height - SIZE[1])
        corner = [min(max(int(side * (0.3 + 0.4 * share) + self.rng.normal(0, 1)), 0), side) for side in room]
        crop = picture.crop((*corner, corner[0] + SIZE[0], corner[1] + SIZE[1]))
        values = np.asarray(crop, dtype=np.float32)
        day = 0.5 + 0.5 * math.cos(2 * math.pi * at / SECONDS)
        gray = values.mean(axis=2, keepdims=True)
        values = values * (0.25 + 0.75 * day) + gray * 0.75 * (1 - day)
        values *= (0.4 + 0.6 * day) * self.exposure
        y, x = self.rng.integers(SIZE[1]), self.rng.integers(SIZE[0])
        values += self.noise[y:y + SIZE[1], x:x + SIZE[0]] * (3 + 9 * (1 - day))
        return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def film(rng, plan, folder):
    folder.mkdir(parents=True, exist_ok=True)
    camera, rows, n = Camera(rng), [], 0
    for act in plan:
        while n / FPS < act[1]:
            name = f"{n:06}.jpg"
            camera.shoot(n / FPS, act).save(folder / name, quality=QUALITY)
            rows.append((name, f"{n / FPS:g}", act[2]))
            n += 1
    with open(folder / "frames.tsv", "w", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows([("file", "seconds", "truth"), *rows])


def configuration(bundle, labels, folder):
    bundle, path = Path(bundle).resolve(), folder / "stream.toml"
    index = bundle / "captions.lidx"
    path.write_text(
        f"model = {json.dumps(str(bundle))}\n"
        + (f"index = {json.dumps(str(index))}\n" if index.exists() else "")
        + f"labels = {json.dumps(labels)}\nnegatives = {json.dumps(NEGATIVES)}\n"
        f"[mqtt]\nhost = \"localhost\"\n[cameras.stream]\nuri = \"dir:frames\"\nmax_fps = {FPS}\n")
    return path


def calibrate(lookout, config, folder):
    command = [lookout, "calibrate", "--config", str(config), "--set", CALIBRATION,
               "--from", str(folder / "background")]
    if subprocess.run(command).returncode != 0:
        sys.exit("lookout calibrate failed")


def replay(lookout, config, folder, rules):
    command = [lookout, "replay", str(folder / "frames"), "--config", str(config), "--json",
               "--html", str(folder / "stream.html")]
    for settings in rules.values():
        command += ["--compare", settings]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("lookout replay failed")
    # The first run is by the configuration itself.
    return dict(zip(["as configured", *rules], json.loads(done.stdout)["runs"]))


def seconds(value):
    return "-" if value is None else f"{value:.1f} s"


def table(runs):
    print("| rules | changes / h | true / h | median delay | longest | missed | false alarms / day | time right |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, run in runs.items():
        figures = run["figures"]
        it = figures["judged"]
        print(f"| {name} | {figures['changes_per_hour']:.0f} | {it['true_changes_per_hour']:.0f} | "
              f"{seconds(it['median_delay_s'])} | {seconds(it['longest_delay_s'])} | "
              f"{it['missed']} of {it['true_changes']} | {it['false_alarms_per_day']:.0f} | "
              f"{it['right_share']:.1%} |")


def bundle_enter(bundle):
    return tomllib.loads((Path(bundle) / "model.toml").read_text())["decision"]["enter"]


def main(lookout, bundle, output, scene_table=None):
    rng, folder = np.random.default_rng(SEED), Path(output)
    found = scenes(bundle, scene_table)
    labels = sorted(it for it in found if it != "none")
    plan = acts(rng, found, SECONDS)
    print(f"{len(plan)} scenes in {SECONDS} s at {FPS} frames a second, labels: {', '.join(labels)}")
    film(rng, plan, folder / "frames")
    empty = acts(rng, {it: found["none"] for it in found}, BACKGROUND_SECONDS)
    film(rng, [(begin, end, "none", picture) for begin, end, _, picture in empty], folder / "background")
    config = configuration(bundle, labels, folder)
    calibrate(lookout, config, folder)
    rules = {name: it.format(enter=bundle_enter(bundle)) for name, it in RULES.items()}
    table(replay(lookout, config, folder, rules))


if __name__ == "__main__":
    main(*sys.argv[1:])
