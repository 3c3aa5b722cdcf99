"""Ways to fuse a picture with its captions, each by its name, on sets of embeddings.

    fusion.py SET...          SET as `lookout eval --embeddings` reads it

For each set: top-1 of picture and captions alone, and by how many points each way to fuse changes that of
the picture. `pooled` is what the program does; this is written anew from its formula and has been compared
with `lookout eval`. The others were tried for it.

Notation: z picture, t_c class, u_k the 16 nearest captions, s logit scale; p = softmax(s cos(z, t_c)),
q_k = softmax(s cos(u_k, t_c)), q their mean; a and b the confidences 1 - H/ln C of p and q; m_c the mean of
u . t_c over the whole bank; g_k = s (cos(z, u_k) - max_c cos(z, t_c)), by how many nats a caption describes
the picture better than the nearest class does.

  memoryless     a p + b q                                                (X-MoRe, order-free)
  running        a/mean(a) p + b/mean(b) q, means over the stream so far  (X-MoRe, the authors')
  floor          memoryless, but b less its floor 0.7 (0 below)
  half           p + q / 2
  agreement      memoryless where both have one top class, else p
  likelihood     sum_c e^{s cos(z, t_c)} [c] + sum_k e^{s cos(z, u_k)} q_k: one mixture of all texts
  log            p q^0.15: a logarithmic pool
  trusted        memoryless, b times mean_k sigmoid(g_k)
  coverage       log, where some u_k . t_c is 3 deviations above the bank's, else p
  centered       log with softmax(s (u_k . t_c - m_c)) for q_k
  hubs           centered, captions ranked by cos(z, u_k) less u_k's mean cosine to the bank
  reliable       centered, exponent 0.5 times how often both top classes agreed so far where p was sure
  pooled         p Q^0.15 with Q = sum_k w_k (r_k softmax(s (u_k . t_c - m_c / 2)) + (1 - r_k) / C),
                 w = softmax(s cos(z, u_k)), r_k = sigmoid((g_k - 2) / 2)
"""
import csv
import json
import sys
from pathlib import Path

import numpy as np

K = 16


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def confidence(p):
    p = np.clip(p, 1e-300, 1)
    return 1 + (p * np.log(p)).sum(-1) / np.log(p.shape[-1])


class Set:
    def __init__(self, folder):
        load = lambda name: unit(np.load(folder / name).astype(np.float64))
        images, classes, captions = load("images.npy"), load("classes.npy"), load("captions.npy")
        self.scale = json.loads((folder / "set.json").read_text())["logit_scale"]
        names = (folder / "classes.txt").read_text().split("\n")
        rows = list(csv.reader((folder / "truth.tsv").open(), delimiter="\t"))[1:]
        cut = lambda text: [it for it in text.split("|") if it]
        truth = np.zeros((len(images), len(classes)), bool)
        near = images @ captions.T
        for row, right, own in rows:
            truth[int(row), [names.index(it) for it in cut(right)]] = True
            near[int(row), [int(it) for it in cut(own)]] = -np.inf
        # Of captions that differ in upper case alone the first is searched.
        words = [it.strip().lower() for it in (folder / "captions.txt").read_text().split("\n")][: len(captions)]
        near[:, [it for it, word in enumerate(words) if words.index(word) < it]] = -np.inf
        known = truth.any(1)
        self.truth, near = truth[known], near[known]
        self.to_classes = images[known] @ classes.T
        self.said = captions @ classes.T
        self.near, self.hubness = near, captions @ captions.mean(0)
        self.pick(near)
        self.p = softmax(self.scale * self.to_classes)
        self.each = softmax(self.scale * self.said)[self.found]
        self.q = self.each.mean(1)
        self.a, self.b = confidence(self.p), confidence(self.q)
        self.gain = self.scale * (self.similar - self.to_classes.max(1)[:, None])

    def pick(self, rank):
        self.found = np.argsort(-rank, axis=1, kind="stable")[:, :K]
        self.similar = np.take_along_axis(self.near, self.found, 1)

    def right(self, scores):
        return self.truth[np.arange(len(scores)), scores.argmax(1)]


def linear(it, a, b):
    share = np.divide(b, a + b, out=np.full_like(b, 0.5), where=0 < a + b)[:, None]
    return (1 - share) * it.p + share * it.q


def log_pool(it, q, exponent):
    return np.log(np.maximum(it.p, 1e-300)) + exponent * np.log(np.maximum(q, 1e-300))


def centered(it, found, lean=1.0):
    return softmax(it.scale * (it.said - lean * it.said.mean(0)))[found]


def running(it):
    mean = lambda x: np.cumsum(x) / np.arange(1, len(x) + 1)
    return linear(it, it.a / mean(it.a), it.b / mean(it.b))


def agreement(it):
    same = (it.p.argmax(1) == it.q.argmax(1))[:, None]
    return np.where(same, linear(it, it.a, it.b), it.p)


def likelihood(it):
    top = np.maximum(it.to_classes.max(1), it.similar.max(1))[:, None]
    captions = np.exp(it.scale * (it.similar - top))[:, :, None] * it.each
    return np.exp(it.scale * (it.to_classes - top)) + captions.sum(1)


def coverage(it):
    deviations = (it.said - it.said.mean(0)) / it.said.std(0)
    covered = (3 < deviations[it.found].max((1, 2)))[:, None]
    return np.where(covered, log_pool(it, it.q, 0.15), np.log(np.maximum(it.p, 1e-300)))


def hubs(it):
    found = np.argsort(-(it.near - it.hubness), axis=1, kind="stable")[:, :K]
    return log_pool(it, centered(it, found).mean(1), 0.15)


def reliable(it):
    q = centered(it, it.found).mean(1)
    sure, agrees, out = 2.0, 1.0, []
    for p, caption, a in zip(it.p, q, it.a):
        out.append(np.log(np.maximum(p, 1e-300)) + 0.5 * agrees / sure * np.log(np.maximum(caption, 1e-300)))
        sure, agrees = sure + a, agrees + a * (p.argmax() == caption.argmax())
    return np.array(out)


def pooled(it):
    heard = softmax(it.scale * it.similar) * sigmoid((it.gain - 2) / 2)
    q = (heard[:, :, None] * centered(it, it.found, 0.5)).sum(1)
    return log_pool(it, q + (1 - heard.sum(1, keepdims=True)) / q.shape[1], 0.15)


WAYS = {
    "memoryless": lambda it: linear(it, it.a, it.b),
    "running": running,
    "floor": lambda it: linear(it, it.a, np.maximum(it.b - 0.7, 0)),
    "half": lambda it: it.p + it.q / 2,
    "agreement": agreement,
    "likelihood": likelihood,
    "log": lambda it: log_pool(it, it.q, 0.15),
    "trusted": lambda it: linear(it, it.a, it.b * sigmoid(it.gain).mean(1)),
    "coverage": coverage,
    "centered": lambda it: log_pool(it, centered(it, it.found).mean(1), 0.15),
    "hubs": hubs,
    "reliable": reliable,
    "pooled": pooled,
}


def main(folders):
    print("| set | pictures | picture | captions | " + " | ".join(WAYS) + " |")
    print("| --- " * (4 + len(WAYS)) + "|")
    changes = []
    for folder in map(Path, folders):
        it = Set(folder)
        if not len(it.p):
            print(f"{folder.name}: no picture has a class", file=sys.stderr)
            continue
        alone = it.right(it.p)
        changes.append([100 * (it.right(way(it)).mean() - alone.mean()) for way in WAYS.values()])
        cells = [len(alone), f"{100 * alone.mean():.1f}", f"{100 * it.right(it.q).mean():.1f}"]
        print(f"| {folder.name} | " + " | ".join(map(str, cells + [f"{it_:+.1f}" for it_ in changes[-1]])) + " |")
    for name, of in (("mean", np.mean), ("least", np.min)):
        print(f"| {name} | | | | " + " | ".join(f"{it:+.1f}" for it in of(changes, axis=0)) + " |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
