"""Makes what `cargo xtask bench encoder` compares, for one model.

usage: models.py NAME OUT STARTER

NAME is tiny16, b32, b16 (vision transformers of CLIP's shape, random weights) or starter; OUT becomes a
folder with

    float.onnx, dynamic.onnx, ...   the float file and onnxruntime's other forms of it
    bundle/                         ours: 8-bit weights behind DequantizeLinear (the starter is its own)
    inputs.npy, embeddings.npy      the pictures to measure, and the float file's answers
    variants.json                   each form's file, and which operators its time goes to

STARTER is the starter bundle. Random weights serve for speed; their embeddings mean nothing, but that int8
comes close to float can still be seen.
"""

import collections
import hashlib
import json
import logging
import os
import shutil
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers import optimizer
from PIL import Image

# Width, blocks, heads, patch. All see 224 x 224 pixels and give 512 numbers.
SHAPES = {"tiny16": (256, 10, 4, 16), "b32": (768, 12, 12, 32), "b16": (768, 12, 12, 16)}
SIDE, DIMENSION = 224, 512
# OpenAI CLIP's preprocessing, for values of 0 to 255: short side, mean, deviation.
CLIP = (224, [122.77, 116.75, 104.09], [68.50, 66.63, 70.32])
STARTER = (256, [127.0] * 3, [128.0] * 3)
N_MEASURED, N_CALIBRATION = 8, 16


class Graph:
    """A graph of one path; each method appends nodes and returns the name of their output."""

    def __init__(self, seed):
        self.nodes, self.weights, self.random = [], [], np.random.default_rng(seed)

    def add(self, operator, *inputs, **attributes):
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, values):
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def normal(self, *shape, std, mean=0.0):
        return self.constant((mean + std * self.random.standard_normal(shape)).astype(np.float32))

    def linear(self, x, n_in, n_out, bias=True):
        x = self.add("MatMul", x, self.normal(n_in, n_out, std=n_in**-0.5))
        return self.add("Add", self.normal(n_out, std=0.1), x) if bias else x

    def norm(self, x, width):
        scale, bias = self.normal(width, std=0.2, mean=1.0), self.normal(width, std=0.1)
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)

    def heads(self, x, n, order):
        """[batch, tokens, channels] by head, in `order` of (batch, token, head, channel)."""
        split = self.constant(np.array([0, 0, n, -1], np.int64))
        return self.add("Transpose", self.add("Reshape", x, split), perm=order)

    def attention(self, x, width, n):
        q, k, v = (self.linear(x, width, width) for _ in range(3))
        q, v = self.heads(q, n, [0, 2, 1, 3]), self.heads(v, n, [0, 2, 1, 3])
        scores = self.add("MatMul", q, self.heads(k, n, [0, 2, 3, 1]))
        scores = self.add("Mul", scores, self.constant(np.float32((width / n) ** -0.5)))
        x = self.add("MatMul", self.add("Softmax", scores, axis=-1), v)
        x = self.add("Transpose", x, perm=[0, 2, 1, 3])
        x = self.add("Reshape", x, self.constant(np.array([0, 0, width], np.int64)))
        return self.linear(x, width, width)

    def perceptron(self, x, width):
        x = self.linear(x, width, 4 * width)
        gate = self.add("Sigmoid", self.add("Mul", x, self.constant(np.float32(1.702))))
        return self.linear(self.add("Mul", x, gate), 4 * width, width)


def transformer(name, path):
    """The image tower of CLIP (Radford et al., arXiv 2103.00020) as exporters write it."""
    width, n_blocks, n_heads, patch = SHAPES[name]
    g = Graph(len(name))
    n_tokens = (SIDE // patch) ** 2 + 1
    weight = g.normal(width, 3, patch, patch, std=(3 * patch * patch) ** -0.5)
    x = g.add("Conv", "pixel_values", weight, kernel_shape=[patch] * 2, strides=[patch] * 2)
    x = g.add("Reshape", x, g.constant(np.array([0, width, -1], np.int64)))
    x = g.add("Transpose", x, perm=[0, 2, 1])
    batch = g.add("Shape", "pixel_values", start=0, end=1)
    shape = g.add("Concat", batch, g.constant(np.array([1, width], np.int64)), axis=0)
    token = g.add("Expand", g.normal(1, 1, width, std=0.03), shape)
    x = g.add("Concat", token, x, axis=1)
    x = g.add("Add", x, g.normal(1, n_tokens, width, std=0.03))
    x = g.norm(x, width)
    for _ in range(n_blocks):
        x = g.add("Add", x, g.attention(g.norm(x, width), width, n_heads))
        x = g.add("Add", x, g.perceptron(g.norm(x, width), width))
    x = g.add("Gather", x, g.constant(np.int64(0)), axis=1)
    g.linear(g.norm(x, width), width, DIMENSION, bias=False)
    g.nodes[-1].output[0] = "image_embeds"
    pixels = ["batch", 3, SIDE, SIDE]
    graph = helper.make_graph(
        g.nodes,
        name,
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, pixels)],
        [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", DIMENSION])],
        g.weights,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def widened(source, path):
    """The starter's image tower with its 8-bit weights as floats."""
    model = onnx.load(source)
    graph = model.graph
    tensors = {it.name: it for it in graph.initializer}
    for node in [it for it in graph.node if it.op_type == "DequantizeLinear"]:
        parts = [numpy_helper.to_array(tensors[it]).astype(np.float32) for it in node.input]
        axis = next((it.i for it in node.attribute if it.name == "axis"), 1)
        shape = [-1 if it == axis else 1 for it in range(parts[0].ndim)]
        scale, zero = parts[1].reshape(shape), parts[2].reshape(shape)
        weight = (parts[0] - zero) * scale
        graph.initializer.append(numpy_helper.from_array(weight, node.output[0]))
        for name in node.input:
            graph.initializer.remove(tensors[name])
        graph.node.remove(node)
    onnx.save(model, path)


def weights8(source, path):
    """The float file with 8-bit weights, a scale for each output."""
    model = onnx.load(source)
    graph = model.graph
    tensors = {it.name: it for it in graph.initializer}
    before = []
    for node in graph.node:
        tensor = tensors.get(node.input[1]) if node.op_type in ("Conv", "MatMul") else None
        if tensor is None:
            continue
        weight = numpy_helper.to_array(tensor)
        axis = 0 if node.op_type == "Conv" else 1
        others = tuple(it for it in range(weight.ndim) if it != axis)
        scale = (np.abs(weight).max(axis=others) / 127).astype(np.float32)
        shape = [-1 if it == axis else 1 for it in range(weight.ndim)]
        integers = np.round(weight / scale.reshape(shape)).astype(np.int8)
        names = [tensor.name + "_8bit", tensor.name + "_scale"]
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(integers, names[0]))
        graph.initializer.append(numpy_helper.from_array(scale, names[1]))
        before.append(helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
    nodes = before + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


def pictures(starter, rule):
    """The starter's pictures as inputs, with their names: resized by the short side, cut to a square."""
    short, mean, std = rule
    names = [it["name"] for it in json.load(open(f"{starter}/golden.json"))["pictures"]]
    inputs = []
    for name in names[: N_MEASURED + N_CALIBRATION]:
        picture = Image.open(f"{starter}/pictures/{name}").convert("RGB")
        size = [round(it * short / min(picture.size)) for it in picture.size]
        left, top = ((it - SIDE) // 2 for it in size)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        picture = picture.crop((left, top, left + SIDE, top + SIDE))
        values = (np.asarray(picture, np.float32) - np.float32(mean)) / np.float32(std)
        inputs.append(values.transpose(2, 0, 1)[None].copy())
    return names, inputs


class Reader(CalibrationDataReader):
    """Calibration pictures."""

    def __init__(self, name, inputs):
        self.rest = iter([{name: it} for it in inputs])

    def get_next(self):
        return next(self.rest, None)


def quantized(name, out, inputs):
    """onnxruntime's forms of the float file, as its documentation recommends to make them."""
    source = f"{out}/prepared.onnx"
    quant_pre_process(f"{out}/float.onnx", source, skip_symbolic_shape=True)
    feed = onnx.load(source).graph.input[0].name
    layers = ["MatMul", "Gemm"] + (["Conv"] if name == "starter" else [])
    # 7 bits where sums of two products would leave 16 bits without VNNI.
    narrow = {"per_channel": True, "reduce_range": True}
    dynamic = {
        "dynamic": {},
        "dynamic, 7 bits": {"reduce_range": True},
        "dynamic, per channel": {"per_channel": True},
        "dynamic, per channel, 7 bits": narrow,
    }
    static = {
        "static": {"op_types_to_quantize": ["MatMul", "Gemm", "Conv"]},
        "static, per channel, 7 bits": {"op_types_to_quantize": ["MatMul", "Gemm", "Conv"], **narrow},
    }
    if name == "starter":
        # Convolutions are much quicker so when activations are quantized at run time.
        dynamic["dynamic, unsigned"] = {"weight_type": QuantType.QUInt8}
        # Transformers lose their meaning with every operator in int8 (cosine 0.6), and gain no speed.
        static["static, all operators"] = narrow
    files = {"float": "float.onnx"}
    for kind, options in dynamic.items():
        files[kind] = file_name(kind)
        options = {"weight_type": QuantType.QInt8, **options}
        quantize_dynamic(source, f"{out}/{files[kind]}", op_types_to_quantize=layers, **options)
    for kind, options in static.items():
        files[kind] = file_name(kind)
        quantize_static(
            source,
            f"{out}/{files[kind]}",
            Reader(feed, inputs),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            **options,
        )
    os.remove(source)
    if name != "starter":
        files |= fused(name, out)
    return files


def fused(name, out):
    """The float file as onnxruntime's own optimizer for transformers joins it, and that in int8."""
    width, n_blocks, n_heads, _ = SHAPES[name]
    joined = optimizer.optimize_model(
        f"{out}/float.onnx", model_type="clip", num_heads=n_heads, hidden_size=width, opt_level=0
    )
    n_joined = sum(it.op_type == "Attention" for it in joined.model.graph.node)
    if n_joined != n_blocks:
        raise SystemExit(f"{name}: {n_joined} of {n_blocks} attentions were joined")
    files = {it: file_name(it) for it in ("float, fused", "dynamic, fused")}
    path = f"{out}/{files['float, fused']}"
    joined.save_model_to_file(path)
    quantize_dynamic(
        path,
        f"{out}/{files['dynamic, fused']}",
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm", "Attention"],
        # The types behind joined operators cannot be inferred.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    return files


def file_name(kind):
    return kind.replace(", ", "-").replace(" ", "-") + ".onnx"


def session(path, optimized=True, profile=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(tower, values):
    return tower.run(None, {tower.get_inputs()[0].name: values})[0][0]


def operators(path, inputs, out):
    """The operators that most of the time goes to, with their parts of it."""
    tower = session(path, profile=f"{out}/profile")
    for values in inputs[:5]:
        run(tower, values)
    trace = tower.end_profiling()
    least = {}
    for event in json.load(open(trace)):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = event["args"]["op_name"], event["name"]
            # Of several runs, since it is not CPU time.
            least[node] = min(event["dur"], least.get(node, event["dur"]))
    os.remove(trace)
    times = collections.Counter()
    for (operator, _), duration in least.items():
        times[operator] += duration
    total = sum(times.values())
    return ", ".join(f"{it} {100 * dur / total:.0f} %" for it, dur in times.most_common(2))


MANIFEST = """\
# Random weights of true shape, for measuring time.
format = 1
space = "bench-{name}"
dimension = 512
license = "none: random numbers"
origin = "cargo xtask bench encoder"
logit_scale = 100.0
templates = ["{{}}"]

[fusion]
weighting = "memoryless"
n_captions = 1

[decision]
enter = 0.5
margin = 0.2
exit = 0.35

[image]
file = "image.onnx"
input = "pixel_values"
output = "image_embeds"
layout = "nchw"
channels = "rgb"
resize = "short_side"
short_side_px = {rule[0]}
long_side_rounding = "half_even"
interpolation = "bicubic"
crop = "center"
size_px = 224
mean = {rule[1]}
std = {rule[2]}

# The starter's, so that there is one; it is never run.
[text]
file = "text.onnx"
ids_input = "input_ids"
mask_input = "attention_mask"
output = "embedding"
tokenizer_kind = "hugging_face"
tokenizer = "tokenizer.json"
context_length = 32
padding = "right"
pad_token = "[PAD]"
end_token = "[SEP]"
strip = true

[golden]
file = "golden.json"
pictures = "pictures"
min_cosine = 0.9

[sha256]
"""


def bundle(name, out, starter, names, embeddings):
    folder = f"{out}/bundle"
    os.mkdir(folder)
    for file in ("text.onnx", "tokenizer.json", "pictures"):
        os.symlink(os.path.abspath(f"{starter}/{file}"), f"{folder}/{file}")
    weights8(f"{out}/float.onnx", f"{folder}/image.onnx")
    samples = [
        {"name": name, "embedding": [float(it) for it in embedding / np.linalg.norm(embedding)]}
        for name, embedding in zip(names, embeddings)
    ]
    golden = {"made_by": {"onnxruntime": ort.__version__}, "pictures": samples, "texts": []}
    with open(f"{folder}/golden.json", "w") as file:
        json.dump(golden, file)
    with open(f"{folder}/model.toml", "w") as file:
        file.write(MANIFEST.format(name=name, rule=CLIP))
        parts = ["golden.json", "image.onnx", "text.onnx", "tokenizer.json"]
        for part in parts + [f"pictures/{it}" for it in names]:
            digest = hashlib.sha256(open(f"{folder}/{part}", "rb").read()).hexdigest()
            file.write(f'"{part}" = "{digest}"\n')


def main(name, out, starter):
    logging.disable(logging.WARNING)
    work = out + ".tmp"
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    if name == "starter":
        widened(f"{starter}/image.onnx", f"{work}/float.onnx")
    else:
        transformer(name, f"{work}/float.onnx")
    names, inputs = pictures(starter, STARTER if name == "starter" else CLIP)
    measured, calibration = inputs[:N_MEASURED], inputs[N_MEASURED:]
    tower = session(f"{work}/float.onnx", optimized=False)
    embeddings = np.stack([run(tower, it) for it in measured])
    del tower
    np.save(f"{work}/inputs.npy", np.stack(measured))
    np.save(f"{work}/embeddings.npy", embeddings)
    files = quantized(name, work, calibration)
    if name != "starter":
        bundle(name, work, starter, names, embeddings)
    variants = [
        {"name": kind, "file": file, "operators": operators(f"{work}/{file}", measured, work)}
        for kind, file in files.items()
    ]
    with open(f"{work}/variants.json", "w") as file:
        json.dump(variants, file, indent=1)
    shutil.rmtree(out, ignore_errors=True)
    os.rename(work, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
