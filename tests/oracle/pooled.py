#!/usr/bin/env python3
"""Reference values for the weighting `pooled`, in float64 numpy; shares no code with the product.

usage: pooled.py        prints the fused distribution and the captions' weight of the case in
                        crates/lookout-core/src/pooling.rs
"""
import numpy as np


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def axis(angle):
    # Embeddings are float32.
    return np.array([np.cos(angle), np.sin(angle)], np.float32).astype(np.float64)


def pooled(cosines, captions, similarities, classes, leanings, scale, caption_scale):
    share = softmax(scale * similarities)
    trust = 1 / (1 + np.exp(-(scale * (similarities - cosines.max()) - 2) / 2))
    q = np.array([softmax(caption_scale * (classes @ u - leanings / 2)) for u in captions])
    heard = share * trust
    mixed = heard @ q + (1 - heard.sum()) / len(cosines)
    say = 0.15 * heard.sum()
    return softmax(scale * cosines + 0.15 * np.log(mixed)), say / (1 + say)


if __name__ == "__main__":
    angles = np.array([0.0, 1.0, 2.5])
    classes = np.array([axis(a) for a in angles])
    fused, weight = pooled(
        np.cos(angles - 0.5), [axis(1.0)], np.array([1.0]), classes, np.array([0.1, 0.7, 0.2]), 20.0, 20.0
    )
    print(fused.tolist(), weight)
