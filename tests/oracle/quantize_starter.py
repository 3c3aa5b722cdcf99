#!/usr/bin/env python3
"""Makes models/starter/image.onnx, whose weights are int8, from the float model.

    python3 -m venv venv && venv/bin/pip install numpy onnx onnxruntime pillow torch
    venv/bin/python tests/oracle/quantize_starter.py IMAGE-F32.onnx      # from the repository's root

Weights of pointwise convolutions and of the classifier become int8 with a scale for each output,
behind DequantizeLinear; the first layers, depthwise convolutions and the class table stay as they
are. What each layer loses is made up for where that is possible, one layer after the other:

1. Calibration pictures go through the float model and through the model as quantized so far. A
   least-squares correction of the layer's weights brings its outputs on the latter's inputs
   nearest to the former's outputs.
2. Weights are rounded one input after the other, and each error is spread over the inputs not yet
   rounded, so that the outputs' error is least, not the weights' (GPTQ, arXiv:2210.17323).
3. Of some scales, each output has the one with the least error of its values.
4. Biases, those of depthwise convolutions too, take up the difference of the outputs' means.

Calibration uses the pictures of models/starter/pictures under CC BY 2.0: each whole and mirrored,
parts of it, and it and parts of it at 32 x 32 pixels, as small or blurred pictures are what int8
changes most. Those under CC BY-SA 2.0 are left out and only measured. About 5 minutes and 3 GB.
The same versions on the same kind of processor make the same file; others may differ in a few
roundings. Afterwards: tests/oracle/encoder.py, and the hashes in model.toml and models/README.md.
"""
import random
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageOps

BUNDLE = Path(__file__).resolve().parents[2] / "models/starter"
SIZE, SHORT_SIDE, MEAN, STD = 224, 256, 127, 128
# Smaller weights, and the class table, stay float.
LEAST_WEIGHTS, KEEP = 2048, {"S.w"}
# Scales that are tried, in times of the greatest weight / 127.
FACTORS = [0.75, 0.8, 0.85, 0.88, 0.91, 0.94, 0.97, 1.0]
# Added to the diagonal of inputs' second moments, in times of its mean. The classifier has one
# sample a picture, too few for a correction of its weights.
DAMPING = {"Conv": 0.01, "Gemm": 0.05}
BATCH = 16


def crop(picture):
    scale = SHORT_SIDE / min(picture.size)
    wide, high = (max(SIZE, round(side * scale)) for side in picture.size)
    picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - SIZE) // 2, (high - SIZE) // 2
    values = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)), np.float32)
    return ((values - MEAN) / STD).transpose(2, 0, 1)


def opened(path):
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def part(picture, rng, least, most):
    side = max(32, int(min(picture.size) * rng.uniform(least, most)))
    left, top = rng.randint(0, picture.width - side), rng.randint(0, picture.height - side)
    picture = picture.crop((left, top, left + side, top + side))
    return ImageOps.mirror(picture) if rng.random() < 0.5 else picture


def variants(picture, rng):
    yield picture
    yield ImageOps.mirror(picture)
    for _ in range(2):
        yield part(picture, rng, 0.4, 0.9)
    for least, smooth in [(1, Image.Resampling.BICUBIC), (0.35, Image.Resampling.BOX)] * 2:
        yield part(picture, rng, least, 1).resize((32, 32), smooth)


def pictures():
    """Those for calibration and those left out."""
    rows = [it.split("\t") for it in (BUNDLE / "pictures/pictures.tsv").read_text().splitlines()]
    of = {row[0]: row[1] for row in rows[1:]}
    names = sorted(of)
    assert set(of.values()) == {"CC BY 2.0", "CC BY-SA 2.0"}
    return [[it for it in names if of[it] == license] for license in ("CC BY 2.0", "CC BY-SA 2.0")]


def attributes(node):
    return {it.name: helper.get_attribute_value(it) for it in node.attribute}


def is_quantized(node, weights):
    if node.op_type not in DAMPING or node.input[1] in KEEP:
        return False
    return weights[node.input[1]].numel() >= LEAST_WEIGHTS and attributes(node).get("group", 1) == 1


def compute(node, values):
    """One operator."""
    of = attributes(node)
    match node.op_type:
        case "Conv":
            top, left, bottom, right = of["pads"]
            padded = torch.nn.functional.pad(values[0], (left, right, top, bottom))
            return torch.nn.functional.conv2d(padded, *values[1:], of["strides"], groups=of["group"])
        case "Clip":
            return values[0].clamp(values[1], values[2])
        case "Add":
            return values[0] + values[1]
        case "GlobalAveragePool":
            return values[0].mean((2, 3), keepdim=True)
        case "Flatten":
            return values[0].flatten(1)
        case "Gemm":
            return values[0] @ values[1] + values[2]
    raise ValueError(node.op_type)


def in_batches(node, tensors, weights):
    n = len(next(tensors[it] for it in node.input if it in tensors))
    return torch.cat([
        compute(node, [tensors[it][i:i + BATCH] if it in tensors else weights[it] for it in node.input])
        for i in range(0, n, BATCH)
    ])


def mean(tensor):
    return tensor.mean((0, 2, 3) if tensor.ndim == 4 else 0)


def columns(tensor, means):
    """One column a pixel, or a picture."""
    flat = tensor.transpose(0, 1).flatten(1) if tensor.ndim == 4 else tensor.T
    return flat - means[:, None]


def moments(inputs, outputs, weight):
    """Second moments of the inputs, and of what the outputs lack with them."""
    of_inputs, of_outputs = mean(inputs), mean(outputs)
    squares = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64)
    lacking = torch.zeros(weight.shape, dtype=torch.float64)
    for i in range(0, len(inputs), BATCH):
        x = columns(inputs[i:i + BATCH], of_inputs)
        y = columns(outputs[i:i + BATCH], of_outputs)
        squares += (x @ x.T).double()
        lacking += ((y - weight @ x) @ x.T).double()
    return squares, lacking


def rounded(weight, squares, scales, block=64):
    """Integers; each rounding error goes to the inputs that are not yet rounded."""
    order = torch.argsort(squares.diagonal(), descending=True, stable=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(squares[order][:, order]))
    spread = torch.linalg.cholesky(inverse, upper=True)
    rest, integers = weight[:, order], torch.zeros_like(weight)
    for begin in range(0, len(order), block):
        end = min(begin + block, len(order))
        errors = torch.zeros(len(weight), end - begin, dtype=weight.dtype)
        for i in range(begin, end):
            whole = (rest[:, i] / scales).round().clamp(-127, 127)
            error = (rest[:, i] - whole * scales) / spread[i, i]
            rest[:, i + 1:end] -= error[:, None] * spread[i, i + 1:end]
            errors[:, i - begin], integers[:, order[i]] = error, whole
        rest[:, end:] -= errors @ spread[begin:end, end:]
    return integers


def quantized(kind, weight, squares, lacking):
    """Integers and scales of a layer, one row an output."""
    diagonal = torch.eye(len(squares), dtype=squares.dtype) * squares.diagonal().mean()
    squares = squares + DAMPING[kind] * diagonal
    target = weight.double()
    if kind == "Conv":
        target = target + torch.linalg.solve(squares, lacking.T).T
    least = torch.full((len(target),), torch.inf, dtype=target.dtype)
    integers, scales = torch.zeros_like(target), torch.ones_like(least)
    for factor in FACTORS:
        # As float32, which the file has.
        tried = (target.abs().amax(1) * factor / 127).float().double()
        whole = rounded(target, squares, tried)
        off = whole * tried[:, None] - target
        error = ((off @ squares) * off).sum(1)
        better = error < least
        least[better], integers[better], scales[better] = error[better], whole[better], tried[better]
    return integers, scales.float()


def quantize(model, pictures):
    """Integers and scales by the weight's name, and the corrected biases."""
    weights = {it.name: torch.tensor(numpy_helper.to_array(it)) for it in model.graph.initializer}
    corrected, layers = dict(weights), {}
    n_left = sum(is_quantized(it, weights) for it in model.graph.node)
    last = {name: i for i, node in enumerate(model.graph.node) for name in node.input}
    exact, ours = {"image": pictures}, {"image": pictures}
    for i, node in enumerate(model.graph.node):
        if n_left == 0:
            break
        wanted = in_batches(node, exact, weights)
        if is_quantized(node, weights):
            n_left -= 1
            name, bias = node.input[1:]
            inputs = ours[node.input[0]]
            by_output = (lambda it: it.flatten(1)) if node.op_type == "Conv" else (lambda it: it.T)
            weight = by_output(weights[name])
            integers, scales = quantized(node.op_type, weight, *moments(inputs, wanted, weight))
            dequantized = integers.float() * scales[:, None]
            corrected[bias] = mean(wanted) - dequantized @ mean(inputs)
            if node.op_type == "Gemm":
                integers, dequantized = integers.T, dequantized.T
            shape = weights[name].shape
            corrected[name] = dequantized.reshape(shape)
            layers[name] = integers.reshape(shape).to(torch.int8), scales
            got = in_batches(node, ours, corrected)
            error = (got - wanted).square().sum() / columns(wanted, mean(wanted)).square().sum()
            print(f"{name}: error {error.sqrt():.4f}", flush=True)
        else:
            got = in_batches(node, ours, corrected)
            if node.op_type == "Conv":
                off = mean(wanted) - mean(got)
                corrected[node.input[2]] = corrected[node.input[2]] + off
                got += off[:, None, None]
        exact[node.output[0]], ours[node.output[0]] = wanted, got
        for name in node.input:
            if last[name] == i:
                exact.pop(name, None)
                ours.pop(name, None)
    biases = {it.input[2] for it in model.graph.node if it.op_type in DAMPING}
    return layers, {it: corrected[it] for it in biases}


def with_layers(model, layers, biases):
    nodes, kept, new = [], [], []
    for node in model.graph.node:
        node = onnx.NodeProto.FromString(node.SerializeToString())
        if node.op_type in DAMPING and (name := node.input[1]) in layers:
            integers, scales = (it.numpy() for it in layers[name])
            parts = {".q": integers, ".s": scales, ".z": np.zeros(len(scales), np.int8)}
            new += [numpy_helper.from_array(it, name + end) for end, it in parts.items()]
            inputs = [name + end for end in parts]
            axis = 0 if node.op_type == "Conv" else 1
            nodes.append(helper.make_node("DequantizeLinear", inputs, [name + ".f"], axis=axis))
            node.input[1] = name + ".f"
        nodes.append(node)
    for it in model.graph.initializer:
        if it.name in biases:
            it = numpy_helper.from_array(biases[it.name].numpy(), it.name)
        if it.name not in layers:
            kept.append(it)
    graph = model.graph
    graph = helper.make_graph(nodes, graph.name, list(graph.input), list(graph.output), kept + new)
    made = helper.make_model(graph, opset_imports=model.opset_import, producer_name="starter")
    made.ir_version = 8
    onnx.checker.check_model(made, full_check=True)
    return made


def embeddings(path, pictures):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["embedding"], {"image": it[None]})[0] for it in pictures])


def main(float_model, output=BUNDLE / "image.onnx"):
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    for_calibration, left_out = pictures()
    rng = random.Random(0)
    calibration = [
        crop(it) for name in for_calibration for it in variants(opened(BUNDLE / "pictures" / name), rng)
    ]
    model = onnx.load(float_model)
    made = with_layers(model, *quantize(model, torch.tensor(np.stack(calibration))))
    onnx.save(made, output)
    sets = {
        "pictures": [crop(opened(BUNDLE / "pictures" / it)) for it in left_out],
        "variants": [
            crop(it) for name in left_out for it in variants(opened(BUNDLE / "pictures" / name), rng)
        ],
    }
    for name, values in sets.items():
        both = embeddings(float_model, values), embeddings(output, values)
        cosines = (both[0] * both[1]).sum(axis=1)
        print(f"cosine to float, {len(values)} {name} left out: least {cosines.min():.5f}, "
              f"mean {cosines.mean():.6f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
