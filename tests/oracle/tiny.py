#!/usr/bin/env python3
"""Makes tests/oracle/tiny: a bundle that differs from the starter in every way that model.toml can
say, and whose embeddings can be told by hand.

    python3 -m venv venv && venv/bin/pip install numpy onnx
    venv/bin/python tests/oracle/tiny.py               # from the repository's root

The image tower gives the mean of each channel (NHWC input); the text tower gives the token ids at
positions 1 to 3, and has no mask.
"""
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).resolve().parent / "tiny"

MANIFEST = """\
format = 1
space = "tiny"
dimension = 3
license = "MIT OR Apache-2.0"
origin = "tests/oracle/tiny.py"
logit_scale = 10
caption_logit_scale = 5.5
templates = ["{{}}"]
[fusion]
weighting = "history"
window = 64
n_captions = 2
[decision]
enter = 0.6
margin = 0
exit = 0.5
[image]
file = "image.onnx"
input = "pixels"
output = "vector"
layout = "nhwc"
channels = "rgb"
resize = "short_side"
short_side_px = 4
long_side_rounding = "half_even"
interpolation = "bicubic"
crop = "center"
size_px = 4
mean = [0, 0, 0]
std = [255, 255, 255]
[text]
file = "text.onnx"
ids_input = "tokens"
output = "vector"
tokenizer_kind = "hugging_face"
tokenizer = "words.json"
context_length = 4
padding = "right"
pad_token = "<pad>"
end_token = "<end>"
strip = false
[golden]
file = "golden.json"
pictures = "samples"
min_cosine = 0.99999
[sha256]
"""

WORDS = {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "a": 4, "cat": 5, "dog": 6}


def model(name, graph_input, nodes, initializers):
    output = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, name, [graph_input], [output], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    (FOLDER / f"{name}.onnx").write_bytes(made.SerializeToString())


def tokenizer():
    special = {it: {"id": it, "ids": [WORDS[it]], "tokens": [it]} for it in ("<start>", "<end>")}
    added = [
        {"id": id, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for word, id in WORDS.items() if word.startswith("<")
    ]
    single = [
        {"SpecialToken": {"id": "<start>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<end>", "type_id": 0}},
    ]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single,
                           "special_tokens": special},
        "decoder": None, "model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "<unk>"},
    }


def main():
    (FOLDER / "samples").mkdir(parents=True, exist_ok=True)
    (FOLDER / "samples/.gitkeep").write_text("")
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 4, 4, 3])
    mean = helper.make_node("ReduceMean", ["pixels"], ["vector"], axes=[1, 2], keepdims=0)
    model("image", pixels, [mean], [])
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", 4])
    weights = numpy_helper.from_array(np.eye(4, 3, -1, dtype=np.float32), "weights")
    nodes = [
        helper.make_node("Cast", ["tokens"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "weights"], ["vector"]),
    ]
    model("text", tokens, nodes, [weights])
    (FOLDER / "words.json").write_text(json.dumps(tokenizer(), indent=1) + "\n")
    vector = np.array([4, 5, 2]) / np.linalg.norm([4, 5, 2])
    golden = {"made_by": "hand", "pictures": [],
              "texts": [{"name": "a cat", "embedding": [float(it) for it in vector]}]}
    (FOLDER / "golden.json").write_text(json.dumps(golden) + "\n")
    manifest = MANIFEST.format()
    for name in ("golden.json", "image.onnx", "text.onnx", "words.json"):
        digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
        manifest += f'"{name}" = "{digest}"\n'
    (FOLDER / "model.toml").write_text(manifest)


if __name__ == "__main__":
    main()
