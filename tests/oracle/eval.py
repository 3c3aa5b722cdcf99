#!/usr/bin/env python3
"""A small set of embeddings, one of other pictures, and what `lookout eval` has to say of them.

The figures are numpy's in float64 and share no code with the program: exact search without a picture's
own captions, the fusion of X-MoRe (arXiv 2308.15273, section 3.3) and `pooled`, accuracy, calibration error, area
under the ROC curve. Made with numpy 2.4.6.

usage: eval.py FOLDER      writes FOLDER/set, FOLDER/unknown and FOLDER/expected.json
"""
import json
import pathlib
import sys

import numpy as np

SCALE, CANDIDATES, KEPT, WINDOW = 12.0, 12, 5, 256
PICTURES, OTHERS, CLASSES, CAPTIONS, DIMENSION = 320, 40, 12, 60, 16


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def confidence(p):
    return 1 + (p * np.log(p)).sum() / np.log(len(p))


def retrieved(picture, captions, texts, own):
    nearest = [i for i in np.argsort(-captions @ picture, kind="stable") if i not in own]
    first = {}
    for i in nearest[:CANDIDATES]:
        first.setdefault(texts[i].strip().lower(), i)
    return list(first.values())[:KEPT]


def pooled(picture, image, found, classes, leaning):
    """By how many nats each caption fits the picture better than the nearest class, and what follows."""
    better = SCALE * (found @ picture - (classes @ picture).max())
    heard = 1 / (1 + np.exp(-(better - 2) / 2))[:, None]
    each = heard * softmax(SCALE * (found @ classes.T - leaning / 2)) + (1 - heard) / len(classes)
    weighed = image * (softmax(SCALE * found @ picture) @ each) ** 0.15
    return weighed / weighed.sum()


def distributions(pictures, own, classes, captions, texts):
    """The distribution of every variant, for each picture of the stream."""
    means, out, leaning = np.zeros(2), [], classes @ captions.mean(axis=0)
    means_windowed = np.zeros(2)
    for n, picture in enumerate(pictures, 1):
        image = softmax(SCALE * classes @ picture)
        found = captions[retrieved(picture, captions, texts, own[n - 1])]
        caption = softmax(SCALE * found @ classes.T).mean(axis=0)
        sure = np.array([confidence(image), confidence(caption)])
        means += (sure - means) / n
        means_windowed += (sure - means_windowed) / min(n, WINDOW)
        mix = lambda w: (w[0] * image + w[1] * caption) / w.sum()
        out.append({"image only": image, "captions only": caption, "memoryless": mix(sure),
                    "running": mix(sure / means), "windowed 256": mix(sure / means_windowed),
                    "pooled": pooled(picture, image, found, classes, leaning)})
    return out


def figures(stream, truth):
    known = [(p, t) for p, t in zip(stream, truth) if t]
    unknown = np.array([p.max() for p in stream[len(truth):]])
    rank = np.array([min((p > p[c]).sum() for c in t) for p, t in known])
    top = np.array([p.max() for p, _ in known])
    right, bins = rank == 0, np.minimum((top * 15).astype(int), 14)
    gaps = [abs((top[bins == b] - right[bins == b]).sum()) for b in range(15)]
    # What differs in rounding alone is equal.
    pairs = (top[:, None] - unknown[None]).round(6)
    return {"top1": right.mean(), "top5": (rank < 5).mean(), "ece": sum(gaps) / len(top),
            "auroc": ((pairs > 0) + 0.5 * (pairs == 0)).mean()}


def main(folder):
    rng = np.random.default_rng(20261126)
    noisy = lambda x, much: unit(x + much * rng.standard_normal(x.shape))
    half = lambda x: np.asarray(x, np.float16)
    classes = half(unit(rng.standard_normal((CLASSES, DIMENSION))))
    about = rng.integers(0, CLASSES, CAPTIONS)
    captions = half(noisy(classes[about].astype(float), 0.25))
    names = [f"class {c}" for c in range(CLASSES)]
    texts = [f"Caption {i - i % 9 // 8} of {names[c]}" for i, c in enumerate(about)]
    texts[8::9] = [it.upper() for it in texts[7::9]]
    shown = rng.integers(0, CLASSES, PICTURES)
    images = half(noisy(classes[shown].astype(float), 0.4))
    others = half(noisy(np.zeros((OTHERS, DIMENSION)), 1.0))
    truth = [[] if i % 11 == 5 else [int(c), (int(c) + 3) % CLASSES] if i % 4 == 0 else [int(c)]
             for i, c in enumerate(shown)]
    own = [sorted(set(rng.integers(0, CAPTIONS, i % 4).tolist())) for i in range(PICTURES)]

    def write(name, images, truth, own):
        to = folder / name
        to.mkdir(parents=True, exist_ok=True)
        for file, table in (("images", images), ("classes", classes), ("captions", captions)):
            np.save(to / f"{file}.npy", table)
        (to / "classes.txt").write_text("\n".join(names) + "\n")
        (to / "captions.txt").write_text("\n".join(texts) + "\n")
        (to / "set.json").write_text(json.dumps({"space": "small", "logit_scale": SCALE}) + "\n")
        rows = (f"{i}\t{'|'.join(names[c] for c in t)}\t{'|'.join(map(str, o))}\n"
                for i, (t, o) in enumerate(zip(truth, own)))
        (to / "truth.tsv").write_text("row\tclasses\town_captions\n" + "".join(rows))

    write("set", images, truth, own)
    write("unknown", others, [[]] * OTHERS, [[]] * OTHERS)
    wide = lambda x: unit(x.astype(np.float64))
    stream = distributions(np.vstack([wide(images), wide(others)]), own + [[]] * OTHERS,
                           wide(classes), wide(captions), texts)
    expected = {name: figures([it[name] for it in stream], truth) for name in stream[0]}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
