#!/usr/bin/env python3
"""Makes the small exports that the import of models is tested with. Shares no code with it.

    python3 tests/exports/make.py            # from the repository's root; all folders
    python3 tests/exports/make.py siglip     # only these

README.md beside this file names the packages and their versions. Every family is built by its own
library (transformers, open_clip, timm) from a shrunken configuration with random weights of a fixed
seed, exported by PyTorch's own exporters and laid out as a repository of a model hub holds it.
`expected.json` has embeddings by onnxruntime with its graph optimization off, of pictures prepared
by the library's own image processor on Pillow, and of texts by its own tokenizer.
"""
import collections
import contextlib
import copy
import functools
import gzip
import io
import json
import logging
import math
import os
import shutil
import string
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
warnings.filterwarnings("ignore")

import numpy as np
import onnx
import onnxruntime
import open_clip
import PIL
import regex
import safetensors.torch
import sentencepiece
import timm
import timm.models._registry
import tokenizers
import torch
import transformers
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tokenizers import Regex, normalizers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/exports"
PICTURES = ["coco_000000000285.jpg", "coco_000000174632.jpg", "coco_000000161044.jpg"]
TEXTS = [
    "a photo of a dog",
    "Two cats, sleeping on the couch!",
    "the café isn't open at 10 pm",
    "a long line of people is waiting in the rain in front of the old train station of a small "
    "town while a man with a red umbrella is selling newspapers",
]
DIMENSION = 40
CONTEXT = 24
N_MERGES = 86
SIZE = 48
# What training made of the scale. The initial value, which configurations name, is 2.6592.
LOGIT_SCALE_LN = 4.4
SIGLIP_SCALE_LN = 4.7
SIGLIP_BIAS = -12.5


# Weights


def randomize(model, seed):
    """Spreads the values of all weights like those of a trained model, as far as size goes."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, std, mean=0.0):
        tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))

    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            last = name.rsplit(".", 1)[-1]
            if not value.is_floating_point() or "mask" in last:
                continue
            if last == "logit_scale":
                value.fill_(SIGLIP_SCALE_LN if hasattr(model, "logit_bias") and
                            model.logit_bias is not None else LOGIT_SCALE_LN)
            elif last == "logit_bias":
                value.fill_(SIGLIP_BIAS)
            elif last == "running_mean":
                normal(value, 0.1)
            elif last == "running_var":
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif "embed" in name and "patch" not in name and value.dim() != 4 or last in (
                "cls_token", "probe", "pos_embed"
            ):
                normal(value, 0.5)
            elif last == "gamma":
                normal(value, 0.1, 0.5)
            elif last in ("proj", "text_projection"):
                normal(value, value.shape[0] ** -0.5)
            elif value.dim() >= 2:
                normal(value, math.prod(value.shape[1:]) ** -0.5)
            elif "bias" in last:
                normal(value, 0.1)
            else:
                normal(value, 0.2, 1.0)
    return model.eval()


def pull_apart(bias, embeddings):
    """Takes most of the common part from the embeddings of random weights: samples that are all
    alike would hide a wrong picture or text."""
    with torch.no_grad():
        bias -= 0.7 * embeddings.mean(dim=0)


def measure_statistics(model, images):
    """Gives batch normalizations the statistics of real pictures, or they wipe out the signal."""
    layers = [it for it in model.modules() if isinstance(it, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = None
        layer.reset_running_stats()
    model.train()
    with torch.no_grad():
        model.encode_image(images)
    model.eval()


# Exporters


class Calls(torch.nn.Module):
    """A module that calls one method of a model, for exporters that only see `forward`."""

    def __init__(self, model, inputs, function):
        super().__init__()
        self.model = model
        self.inputs = inputs
        self.function = function

    def forward(self, *values):
        return self.function(self.model, **dict(zip(self.inputs, values)))


def drop_metadata(path):
    """Removes what the exporter notes of the Python source: stack traces with their paths."""
    model = onnx.load(path)
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input,
                 *graph.output, *model.functions):
        item.ClearField("metadata_props")
        if hasattr(item, "doc_string"):
            item.ClearField("doc_string")
    onnx.save(model, path)


def export(path, model, function, inputs, outputs, *, opset, dynamo=False, axes=None):
    """`inputs` maps names to example tensors; `axes` maps names to dynamic axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    module = Calls(model, list(inputs), function).eval()
    args = tuple(inputs.values())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if dynamo:
            dims = {}
            shapes = tuple(
                {axis: dims.setdefault(dim, torch.export.Dim(dim))
                 for axis, dim in (axes or {}).get(name, {}).items()}
                for name in inputs
            )
            program = torch.onnx.export(
                module, args, dynamo=True, opset_version=opset, input_names=list(inputs),
                output_names=outputs, dynamic_shapes=(shapes,),
            )
            program.save(path, external_data=False)
            drop_metadata(path)
        else:
            torch.onnx.export(
                module, args, path, dynamo=False, opset_version=opset, input_names=list(inputs),
                output_names=outputs, dynamic_axes=axes, do_constant_folding=True,
            )
    onnx.checker.check_model(str(path))


def session(path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


# Tokenizers


def captions():
    lines = (ROOT / "models/starter/captions.tsv").read_text().splitlines()
    return [line.split("\t")[1] for line in lines[1:4001]]


@functools.cache
def bpe():
    """Vocabulary and merges in CLIP's order: bytes, bytes that end a word, merges, two tokens."""
    pattern = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
    letters = bytes_to_unicode()
    counts = collections.Counter(
        word for text in captions() for word in pattern.findall(text.lower())
    )
    words = {}
    for word, count in counts.items():
        symbols = [letters[byte] for byte in word.encode()]
        symbols[-1] += "</w>"
        words[tuple(symbols)] = words.get(tuple(symbols), 0) + count
    merges = []
    while len(merges) < N_MERGES:
        pairs = collections.Counter()
        for symbols, count in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = {}
        for symbols, count in words.items():
            out = []
            for symbol in symbols:
                if out and (out[-1], symbol) == best:
                    out[-1] += symbol
                else:
                    out.append(symbol)
            merged[tuple(out)] = merged.get(tuple(out), 0) + count
        words = merged
    base = list(letters.values())
    vocabulary = base + [it + "</w>" for it in base] + ["".join(pair) for pair in merges]
    return vocabulary, merges


def clip_tokenizer(context):
    vocabulary, merges = bpe()
    tokens = vocabulary + ["<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={token: id for id, token in enumerate(tokens)}, merges=merges,
        model_max_length=context,
    )


def write_vocab_and_merges(folder):
    vocabulary, merges = bpe()
    tokens = vocabulary + ["<|startoftext|>", "<|endoftext|>"]
    write_json(folder / "vocab.json", {token: id for id, token in enumerate(tokens)}, indent=None)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")


def open_clip_tokenizer(context):
    _, merges = bpe()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "bpe.txt.gz"
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        return SimpleTokenizer(bpe_path=str(path), context_length=context)


def clip_ids(context):
    tokenizer = clip_tokenizer(context)
    return lambda texts: tokenizer(
        texts, padding="max_length", truncation=True, max_length=context, return_tensors="np"
    )["input_ids"]


def siglip_tokenizer(folder, context):
    """Trains `spiece.model`, and writes beside it the `tokenizer.json` that gives the same ids.

    transformers has no converter for SigLIP; hub repositories carry such a converted file.
    """
    # A few of the rules of NFKC: all of them would make a file of half a megabyte.
    pairs = [("\u00a0", " "), ("\u3000", " "), ("\ufb01", "fi"), ("\u2026", "..."),
             *((chr(0xFEE0 + it), chr(it)) for it in range(0x21, 0x7F))]
    rules = folder / "rules.tsv"
    rules.write_text("".join(
        f"{' '.join(f'{ord(it):X}' for it in left)}\t{' '.join(f'{ord(it):X}' for it in right)}\n"
        for left, right in pairs))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(it.lower() for it in captions()),
        model_prefix=str(folder / "spiece"), vocab_size=400, model_type="unigram", pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>",
        hard_vocab_limit=True, num_threads=1, minloglevel=2, normalization_rule_tsv=str(rules),
    )
    rules.unlink()
    (folder / "spiece.vocab").unlink()
    slow = transformers.SiglipTokenizer(str(folder / "spiece.model"), model_max_length=context)
    proto = transformers.convert_slow_tokenizer.import_protobuf().ModelProto()
    proto.ParseFromString((folder / "spiece.model").read_bytes())
    fast = tokenizers.Tokenizer(tokenizers.models.Unigram(
        [(piece.piece, piece.score) for piece in proto.pieces], unk_id=2, byte_fallback=False))
    punctuation = "[" + "".join("\\" + it for it in string.punctuation) + "]"
    steps = [normalizers.Lowercase(), normalizers.Replace(Regex(punctuation), ""),
             normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    charsmap = proto.normalizer_spec.precompiled_charsmap
    if charsmap:
        steps.insert(0, normalizers.Precompiled(charsmap))
    fast.normalizer = normalizers.Sequence(steps)
    fast.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(
        replacement="▁", prepend_scheme="always")
    fast.decoder = tokenizers.decoders.Metaspace(replacement="▁", prepend_scheme="always")
    fast.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    fast.add_special_tokens([
        tokenizers.AddedToken("</s>", lstrip=True, rstrip=True, normalized=False, special=True),
        tokenizers.AddedToken("<unk>", lstrip=True, rstrip=True, normalized=False, special=True),
    ])
    fast.save(str(folder / "tokenizer.json"))
    (folder / "spiece.model").unlink()
    for text in TEXTS + captions()[:500]:
        ours, theirs = fast.encode(text).ids, slow(text)["input_ids"]
        if ours != theirs:
            sys.exit(f"tokenizer.json differs from SiglipTokenizer on {text!r}: {ours} {theirs}")
    write_json(folder / "tokenizer_config.json", {
        "added_tokens_decoder": {
            str(id): {"content": token, "lstrip": True, "normalized": False, "rstrip": True,
                      "single_word": False, "special": True}
            for id, token in [(1, "</s>"), (2, "<unk>")]
        },
        "clean_up_tokenization_spaces": True, "do_lower_case": True, "eos_token": "</s>",
        "model_input_names": ["input_ids"], "model_max_length": context, "pad_token": "</s>",
        "processor_class": "SiglipProcessor", "tokenizer_class": "SiglipTokenizer",
        "unk_token": "<unk>",
    })
    return lambda texts: slow(
        texts, padding="max_length", truncation=True, max_length=context, return_tensors="np"
    )["input_ids"]


# Files


def write_json(path, value, indent=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def fresh(name):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def made_by():
    return {
        "script": "tests/exports/make.py",
        "onnxruntime": onnxruntime.__version__ + ", graph optimization off",
        "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
        "open_clip_torch": open_clip.__version__, "timm": timm.__version__,
        "tokenizers": tokenizers.__version__, "pillow": PIL.__version__,
    }


def rounded(values):
    return [float(f"{it:.7g}") for it in values]


def unit(vector):
    return vector / np.linalg.norm(vector)


def write_expected(folder, *, exporter, truth, pixels, ids, vision, text):
    """`vision` and `text` are (file, output name). `truth` holds the scale that training made."""
    pictures, texts, embeddings = [], [], {"vision": [], "text": []}
    run = session(folder / vision[0])
    name = next(it.name for it in run.get_inputs() if it.name in ("pixel_values", "image"))
    combined = vision[0] == text[0]
    rows = np.asarray(ids(TEXTS))
    text_run = run if combined else session(folder / text[0])
    text_input = next(it for it in text_run.get_inputs() if it.name in ("input_ids", "text"))
    dtype = np.int32 if text_input.type == "tensor(int32)" else np.int64
    values = [pixels(Image.open(ROOT / "models/starter/pictures" / it)) for it in PICTURES]

    def others(run, feed, count):
        mask = [it.name for it in run.get_inputs() if it.name == "attention_mask"]
        row = feed.get("input_ids")
        return {**feed, **{it: np.ones((count, row.shape[1]), np.int64) for it in mask}}

    for picture, value in zip(PICTURES, values):
        feed = {name: value.astype(np.float32)}
        if combined:
            feed = others(run, {**feed, "input_ids": rows[:1].astype(dtype)}, 1)
        vector = unit(run.run([vision[1]], feed)[0][0])
        embeddings["vision"].append(vector)
        pictures.append({
            "name": picture, "embedding": rounded(vector),
            "channel_means": rounded(value[0].mean(axis=(1, 2), dtype=np.float64)),
        })
    for string_, row in zip(TEXTS, rows):
        feed = {text_input.name: row[None].astype(dtype)}
        if combined:
            feed[name] = values[0].astype(np.float32)
        vector = unit(text_run.run([text[1]], others(text_run, feed, 1))[0][0])
        embeddings["text"].append(vector)
        texts.append({"text": string_, "ids": row.tolist(), "embedding": rounded(vector)})
    lines = ["{", f'"made_by": {json.dumps(made_by())},', f'"exporter": {json.dumps(exporter)},',
             f'"dimension": {len(pictures[0]["embedding"])},', f'"truth": {json.dumps(truth)},']
    for key, samples, end in [("pictures", pictures, ","), ("texts", texts, "")]:
        lines.append(f'"{key}": [')
        lines.append(",\n".join(
            json.dumps(it, ensure_ascii=False, separators=(",", ":")) for it in samples))
        lines.append("]" + end)
    lines.append("}")
    (folder / "expected.json").write_text("\n".join(lines) + "\n")
    # Embeddings that are all alike would let a wrong picture or text pass.
    for kind, vectors in embeddings.items():
        cosines = [float(a @ b) for i, a in enumerate(vectors) for b in vectors[:i]]
        print(f"  {kind}: cosines among samples {min(cosines):.3f} to {max(cosines):.3f}")
    size = sum(it.stat().st_size for it in folder.rglob("*") if it.is_file())
    print(f"{folder.name}: {size / 1000:.0f} kB")


def truth_of(scale_ln, bias=None, where="nowhere in this folder"):
    truth = {"logit_scale": math.exp(scale_ln), "logit_scale_ln": scale_ln}
    if bias is not None:
        truth["logit_bias"] = bias
    return {**truth, "where": where}


# CLIP as transformers holds it


def clip_config(*, act, eos=None, vision=None, text=None, attention="eager"):
    vocabulary = len(bpe()[0]) + 2
    return transformers.CLIPConfig(
        projection_dim=DIMENSION, logit_scale_init_value=2.6592,
        attn_implementation=attention,
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": SIZE, "patch_size": 8, "hidden_act": act,
            "projection_dim": DIMENSION, **(vision or {}),
        },
        text_config={
            "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": vocabulary,
            "max_position_embeddings": CONTEXT, "hidden_act": act,
            "projection_dim": DIMENSION, "bos_token_id": 0 if eos == 2 else vocabulary - 2,
            "eos_token_id": vocabulary - 1 if eos is None else eos,
            "pad_token_id": 1 if eos == 2 else vocabulary - 1, **(text or {}),
        },
    )


def clip_towers(config, seed):
    """One CLIPModel, and the two models with projection that hub exports are made from."""
    whole = randomize(transformers.CLIPModel(config), seed)
    vision = transformers.CLIPVisionModelWithProjection(config.vision_config)
    text = transformers.CLIPTextModelWithProjection(config.text_config)
    weights = whole.state_dict()
    for tower in (vision, text):
        tower.config._attn_implementation = config._attn_implementation
        own = tower.state_dict()
        tower.load_state_dict({key: weights[key] for key in own if key in weights})
    return whole, vision.eval(), text.eval()


def clip_files(folder, config, *, size=SIZE, old=False):
    json_config = json.loads(config.to_json_string())
    json_config["architectures"] = ["CLIPModel"]
    write_json(folder / "config.json", json_config)
    if old:
        processor = {
            "crop_size": size, "do_center_crop": True, "do_normalize": True, "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": size,
        }
    else:
        processor = json.loads(CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        ).to_json_string())
    write_json(folder / "preprocessor_config.json", processor)


def processor_pixels(folder):
    kind = json.loads((folder / "preprocessor_config.json").read_text())
    siglip = "Siglip" in kind.get("image_processor_type", "")
    maker = SiglipImageProcessorPil if siglip else CLIPImageProcessorPil
    processor = maker.from_pretrained(str(folder))
    return lambda image: np.asarray(processor(images=image, return_tensors="np")["pixel_values"])


def save_tokenizer(folder, tokenizer):
    tokenizer.save_pretrained(str(folder))


def image_batch(size=SIZE, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def picture_batch(pixels, count=None):
    """The pictures of `expected.json`, or the first `count` of all."""
    folder = ROOT / "models/starter/pictures"
    names = sorted(it.name for it in folder.glob("*.jpg"))[:count] if count else PICTURES
    images = [Image.open(folder / it) for it in names]
    return torch.tensor(np.concatenate([pixels(it) for it in images]))


def text_batch(ids):
    return torch.tensor(np.asarray(ids(TEXTS[:2])), dtype=torch.int64)


HUB_PIXELS = {0: "batch_size", 1: "num_channels", 2: "height", 3: "width"}
HUB_IDS = {0: "batch_size", 1: "sequence_length"}
CLIP_WHERE = ("nowhere in this folder: config.json names the initial value only, the trained one "
              "is the weight logit_scale of the whole model")


def hf_clip(name, *, act, opset, seed, where="onnx", dynamo=False, attention="eager", eos=None,
            mask=False, hidden=False, bpe_files=False, old=False, vision_cfg=None, text_cfg=None):
    folder = fresh(name)
    config = clip_config(act=act, eos=eos, attention=attention, vision=vision_cfg, text=text_cfg)
    _, vision, text = clip_towers(config, seed)
    clip_files(folder, config, old=old)
    if bpe_files:
        write_vocab_and_merges(folder)
    else:
        save_tokenizer(folder, clip_tokenizer(CONTEXT))
    ids = clip_ids(CONTEXT)

    def run_vision(model, pixel_values):
        out = model(pixel_values=pixel_values)
        return (out.image_embeds, out.last_hidden_state) if hidden else out.image_embeds

    def run_text(model, **inputs):
        out = model(**inputs)
        return (out.text_embeds, out.last_hidden_state) if hidden else out.text_embeds

    vision_axes = {"pixel_values": {0: "batch_size"} if dynamo else HUB_PIXELS,
                   "image_embeds": {0: "batch_size"}}
    text_axes = {"input_ids": HUB_IDS, "text_embeds": {0: "batch_size"}}
    text_inputs = {"input_ids": text_batch(ids)}
    if mask:
        text_inputs["attention_mask"] = torch.ones_like(text_inputs["input_ids"])
        text_axes["attention_mask"] = HUB_IDS
    files = [Path(where) / "vision_model.onnx", Path(where) / "text_model.onnx"]
    export(folder / files[0], vision, run_vision, {"pixel_values": image_batch()},
           ["image_embeds", "last_hidden_state"][: 1 + hidden], opset=opset, dynamo=dynamo,
           axes=vision_axes)
    export(folder / files[1], text, run_text, text_inputs,
           ["text_embeds", "last_hidden_state"][: 1 + hidden], opset=opset, dynamo=dynamo,
           axes=text_axes)
    write_expected(
        folder, exporter=f"{'torch.export' if dynamo else 'TorchScript'}, opset {opset}",
        truth=truth_of(LOGIT_SCALE_LN, where=CLIP_WHERE), pixels=processor_pixels(folder),
        ids=ids, vision=(str(files[0]), "image_embeds"), text=(str(files[1]), "text_embeds"))


def clip_quickgelu_o14():
    hf_clip("clip-quickgelu-o14", act="quick_gelu", opset=14, seed=1, eos=2,
            vision_cfg={"hidden_size": 48, "num_attention_heads": 3},
            text_cfg={"num_hidden_layers": 2})


def clip_quickgelu_dynamo18():
    hf_clip("clip-quickgelu-dynamo18", act="quick_gelu", opset=18, seed=2, where="", dynamo=True,
            attention="sdpa", mask=True, hidden=True, bpe_files=True)


def clip_gelu_o13():
    hf_clip("clip-gelu-o13", act="gelu", opset=13, seed=3)


def clip_gelu_o17():
    hf_clip("clip-gelu-o17", act="gelu", opset=17, seed=4, attention="sdpa", mask=True,
            hidden=True)


def tinyclip():
    """TinyCLIP: narrow towers, and the oldest form of the processor's file."""
    hf_clip("tinyclip", act="quick_gelu", opset=14, seed=5, eos=2, old=True,
            vision_cfg={"hidden_size": 24, "intermediate_size": 96})


def clip_combined():
    """The two towers in one graph, as the hub's own exporter writes it by default."""
    folder = fresh("clip-combined")
    config = clip_config(act="quick_gelu", eos=2, vision={"num_hidden_layers": 1})
    whole = randomize(transformers.CLIPModel(config), 6)
    clip_files(folder, config)
    save_tokenizer(folder, clip_tokenizer(CONTEXT))
    ids = clip_ids(CONTEXT)
    outputs = ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]

    def run(model, **inputs):
        out = model(**inputs)
        return tuple(getattr(out, it) for it in outputs)

    tokens = text_batch(ids)
    export(folder / "onnx/model.onnx", whole, run,
           {"input_ids": tokens, "pixel_values": image_batch(),
            "attention_mask": torch.ones_like(tokens)}, outputs, opset=14,
           axes={"input_ids": {0: "text_batch_size", 1: "sequence_length"},
                 "pixel_values": {0: "image_batch_size", 1: "num_channels", 2: "height",
                                  3: "width"},
                 "attention_mask": {0: "text_batch_size", 1: "sequence_length"},
                 "logits_per_image": {0: "image_batch_size", 1: "text_batch_size"},
                 "logits_per_text": {0: "text_batch_size", 1: "image_batch_size"},
                 "text_embeds": {0: "text_batch_size"}, "image_embeds": {0: "image_batch_size"}})
    write_expected(
        folder, exporter="TorchScript, opset 14",
        truth=truth_of(LOGIT_SCALE_LN,
                       where="onnx/model.onnx: logits_per_image over the cosine of the embeddings"),
        pixels=processor_pixels(folder), ids=ids, vision=("onnx/model.onnx", "image_embeds"),
        text=("onnx/model.onnx", "text_embeds"))


# CLIP as open_clip holds it


def open_clip_files(folder, model_cfg, preprocess_cfg):
    write_json(folder / "open_clip_config.json",
               {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg})


def open_clip_pixels(preprocess_cfg, size):
    transform = image_transform_v2(PreprocessCfg(size=size, **preprocess_cfg), is_train=False)
    return lambda image: transform(image).unsqueeze(0).numpy()


def open_clip_ids(context):
    tokenizer = open_clip_tokenizer(context)
    return lambda texts: tokenizer(texts).numpy()


def open_clip_model(model_cfg, seed):
    cfg = copy.deepcopy(model_cfg)
    custom = cfg.pop("custom_text", False)
    maker = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    return randomize(maker(**cfg), seed)


def open_clip_towers(folder, model, size, *, opset, where, dynamo=False, ids):
    files = [Path(where) / "vision_model.onnx", Path(where) / "text_model.onnx"]
    export(folder / files[0], model, lambda it, pixel_values: it.encode_image(pixel_values),
           {"pixel_values": image_batch(size)}, ["image_embeds"], opset=opset, dynamo=dynamo,
           axes={"pixel_values": {0: "batch_size"}, "image_embeds": {0: "batch_size"}})
    export(folder / files[1], model, lambda it, input_ids: it.encode_text(input_ids),
           {"input_ids": text_batch(ids)}, ["text_embeds"], opset=opset, dynamo=dynamo,
           axes={"input_ids": {0: "batch_size"}, "text_embeds": {0: "batch_size"}})
    return {"vision": (str(files[0]), "image_embeds"), "text": (str(files[1]), "text_embeds")}


def text_cfg(**more):
    return {"context_length": CONTEXT, "vocab_size": len(bpe()[0]) + 2, "width": 24, "heads": 2,
            "layers": 1, "mlp_ratio": 2.0, **more}


OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


def openclip_vit():
    """open_clip's own layout; the weights' file holds only the scale, the rest is in the graphs."""
    folder = fresh("openclip-vit")
    model_cfg = {
        "embed_dim": DIMENSION,
        "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 32, "head_width": 16,
                       "patch_size": 8, "mlp_ratio": 2.0},
        "text_cfg": text_cfg(),
    }
    preprocess = {**OPENAI, "interpolation": "bicubic", "resize_mode": "squash"}
    model = open_clip_model(model_cfg, 7)
    open_clip_files(folder, model_cfg, preprocess)
    save_tokenizer(folder, clip_tokenizer(CONTEXT))
    safetensors.torch.save_file({"logit_scale": model.logit_scale.detach().clone()},
                                folder / "open_clip_model.safetensors")
    ids = open_clip_ids(CONTEXT)
    towers = open_clip_towers(folder, model, SIZE, opset=17, where="", ids=ids)
    write_expected(
        folder, exporter="TorchScript, opset 17",
        truth=truth_of(LOGIT_SCALE_LN, where="open_clip_model.safetensors: logit_scale, ln"),
        pixels=open_clip_pixels(preprocess, SIZE), ids=ids, **towers)


def openclip_rn50():
    """ModifiedResNet with attention pooling, laid out as immich's exports are: two folders, batch
    of one, 32-bit tokens, embeddings normalized in the graph."""
    folder = fresh("openclip-rn50")
    size = 64
    model_cfg = {
        "embed_dim": DIMENSION,
        "vision_cfg": {"image_size": size, "layers": [1, 1, 1, 1], "width": 4, "head_width": 64,
                       "patch_size": None},
        "text_cfg": text_cfg(),
        "quick_gelu": True,
    }
    preprocess = {**OPENAI, "interpolation": "bicubic", "resize_mode": "shortest"}
    model = open_clip_model(model_cfg, 8)
    measure_statistics(model, picture_batch(open_clip_pixels(preprocess, size), 20))
    samples = picture_batch(open_clip_pixels(preprocess, size))
    pull_apart(model.visual.attnpool.c_proj.bias, model.encode_image(samples))
    write_json(folder / "config.json", model_cfg)
    write_json(folder / "visual/preprocess_cfg.json",
               {"size": [size, size], "mode": "RGB", **preprocess, "fill_color": 0})
    save_tokenizer(folder / "textual", clip_tokenizer(CONTEXT))
    ids = open_clip_ids(CONTEXT)
    export(folder / "visual/model.onnx", model,
           lambda it, image: it.encode_image(image, normalize=True),
           {"image": image_batch(size, 1)}, ["embedding"], opset=17)
    export(folder / "textual/model.onnx", model,
           lambda it, text: it.encode_text(text, normalize=True),
           {"text": text_batch(ids)[:1].to(torch.int32)}, ["embedding"], opset=17)
    write_expected(
        folder, exporter="TorchScript, opset 17",
        truth=truth_of(LOGIT_SCALE_LN), pixels=open_clip_pixels(preprocess, size), ids=ids,
        vision=("visual/model.onnx", "embedding"), text=("textual/model.onnx", "embedding"))


@contextlib.contextmanager
def shrunken(name, make):
    """While it lasts, timm builds `name` with `make`."""
    entries = timm.models._registry._model_entrypoints
    original = entries[name]
    entries[name] = make
    try:
        yield
    finally:
        entries[name] = original


def small_mci0(pretrained=False, **kwargs):
    from timm.models.fastvit import RepConditionalPosEnc, _create_fastvit
    return _create_fastvit("fastvit_mci0", pretrained=False, **{**dict(
        layers=(1, 1, 1, 1), embed_dims=(4, 8, 16, 32), mlp_ratios=(2, 2, 2, 2),
        se_downsamples=(False, False, True, True),
        pos_embs=(None, None, None, functools.partial(RepConditionalPosEnc, spatial_shape=(7, 7))),
        token_mixers=("repmixer", "repmixer", "repmixer", "attention"), lkc_use_act=True,
        cls_ratio=1.0,
    ), **kwargs})


def small_mci_b(pretrained=False, **kwargs):
    from timm.models.vision_transformer_hybrid import ConvStem, _create_vision_transformer_hybrid
    stem = ConvStem(channels=(12, 12, 48), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0,
                    act_layer=torch.nn.GELU)
    return _create_vision_transformer_hybrid(
        "vit_base_mci_224", backbone=stem, embed_args=dict(proj=False), pretrained=False,
        **{**dict(img_size=64, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2.0,
                  no_embed_class=True), **kwargs})


def mobileclip(name, *, entry, make, pool, seed, opset, dynamo, fuse, causal, resized):
    folder = fresh(name)
    size = 64
    model_cfg = {
        "embed_dim": DIMENSION,
        "vision_cfg": {"timm_model_name": entry, "timm_model_pretrained": False,
                       "timm_pool": pool, "timm_proj": None, "timm_drop": 0.0,
                       "timm_drop_path": 0.0, "image_size": size},
        "text_cfg": text_cfg(no_causal_mask=not causal),
        "custom_text": True,
    }
    preprocess = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear",
                  "resize_mode": "shortest"}
    with shrunken(entry, make):
        model = open_clip_model(model_cfg, seed)
    measure_statistics(model, picture_batch(open_clip_pixels(preprocess, size), 20))
    head = model.visual.trunk.head
    samples = picture_batch(open_clip_pixels(preprocess, size))
    pull_apart(getattr(head, "fc", head).bias, model.encode_image(samples))
    if fuse:
        model = timm.utils.reparameterize_model(model)
    ids = open_clip_ids(CONTEXT)
    save_tokenizer(folder, clip_tokenizer(CONTEXT))
    if resized == "hub":
        # As in the hub's conversions of Apple's models: no mean, no deviation, nearly no
        # configuration.
        write_json(folder / "config.json", {"model_type": "clip"})
        write_json(folder / "preprocessor_config.json", {
            "crop_size": {"height": size, "width": size}, "do_center_crop": True,
            "do_convert_rgb": True, "do_normalize": False, "do_rescale": True, "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_processor_type": "CLIPFeatureExtractor", "resample": 2,
            "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": size},
        })
        pixels = processor_pixels(folder)
        where = "onnx"
    else:
        open_clip_files(folder, model_cfg, preprocess)
        pixels = open_clip_pixels(preprocess, size)
        where = ""
    towers = open_clip_towers(folder, model, size, opset=opset, dynamo=dynamo, where=where,
                              ids=ids)
    write_expected(
        folder, exporter=f"{'torch.export' if dynamo else 'TorchScript'}, opset {opset}",
        truth=truth_of(LOGIT_SCALE_LN), pixels=pixels, ids=ids, **towers)


def mobileclip_s0():
    mobileclip("mobileclip-s0", entry="fastvit_mci0", make=small_mci0, pool="avg", seed=9,
               opset=14, dynamo=False, fuse=True, causal=True, resized="hub")


def mobileclip_b():
    """Its text tower has no causal mask (as MobileCLIP2-S0's): the padding changes the result."""
    mobileclip("mobileclip-b", entry="vit_base_mci_224", make=small_mci_b, pool="token", seed=10,
               opset=18, dynamo=True, fuse=False, causal=False, resized="open_clip")


# SigLIP


def siglip():
    folder = fresh("siglip")
    context = 16
    config = transformers.SiglipConfig(
        attn_implementation="eager",
        vision_config={"hidden_size": 40, "intermediate_size": 64, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "image_size": SIZE, "patch_size": 8},
        text_config={"hidden_size": 40, "intermediate_size": 64, "num_hidden_layers": 1,
                     "num_attention_heads": 2, "vocab_size": 400,
                     "max_position_embeddings": context, "projection_size": 40},
    )
    whole = randomize(transformers.SiglipModel(config), 11)
    ids = siglip_tokenizer(folder, context)
    tokens = torch.tensor(np.asarray(ids(TEXTS)), dtype=torch.int64)
    pull_apart(whole.text_model.head.bias, whole.text_model(input_ids=tokens).pooler_output)
    vision = transformers.SiglipVisionModel(config.vision_config)
    text = transformers.SiglipTextModel(config.text_config)
    for tower, prefix in [(vision, "vision_model."), (text, "text_model.")]:
        tower.config._attn_implementation = "eager"
        weights = whole.state_dict()
        own = {}
        for key in tower.state_dict():
            own[key] = weights[key if key in weights else prefix + key]
        tower.load_state_dict(own)
        tower.eval()
    json_config = json.loads(config.to_json_string())
    json_config["architectures"] = ["SiglipModel"]
    write_json(folder / "config.json", json_config)
    write_json(folder / "preprocessor_config.json", json.loads(SiglipImageProcessorPil(
        size={"height": SIZE, "width": SIZE}).to_json_string()))
    safetensors.torch.save_file(
        {"logit_scale": whole.logit_scale.detach().clone(),
         "logit_bias": whole.logit_bias.detach().clone()}, folder / "model.safetensors")
    tokens = text_batch(ids)
    pair = lambda out: (out.last_hidden_state, out.pooler_output)
    export(folder / "onnx/vision_model.onnx", vision,
           lambda it, pixel_values: pair(it(pixel_values=pixel_values)),
           {"pixel_values": image_batch()}, ["last_hidden_state", "pooler_output"], opset=14,
           axes={"pixel_values": HUB_PIXELS, "pooler_output": {0: "batch_size"}})
    export(folder / "onnx/text_model.onnx", text,
           lambda it, input_ids: pair(it(input_ids=input_ids)), {"input_ids": tokens},
           ["last_hidden_state", "pooler_output"], opset=14,
           axes={"input_ids": HUB_IDS, "pooler_output": {0: "batch_size"}})
    outputs = ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
    export(folder / "onnx/model.onnx", whole,
           lambda it, **inputs: (lambda out: tuple(getattr(out, key) for key in outputs))(
               it(**inputs)),
           {"input_ids": tokens, "pixel_values": image_batch()}, outputs, opset=14,
           axes={"input_ids": {0: "text_batch_size", 1: "sequence_length"},
                 "pixel_values": {0: "image_batch_size", 1: "num_channels", 2: "height",
                                  3: "width"},
                 "logits_per_image": {0: "image_batch_size", 1: "text_batch_size"},
                 "logits_per_text": {0: "text_batch_size", 1: "image_batch_size"},
                 "text_embeds": {0: "text_batch_size"}, "image_embeds": {0: "image_batch_size"}})
    write_expected(
        folder, exporter="TorchScript, opset 14",
        truth=truth_of(SIGLIP_SCALE_LN, SIGLIP_BIAS,
                       where="model.safetensors: logit_scale (ln), logit_bias; and in "
                             "onnx/model.onnx, without names: logits = exp(scale) * cosine + bias"),
        pixels=processor_pixels(folder), ids=ids, vision=("onnx/vision_model.onnx", "pooler_output"),
        text=("onnx/text_model.onnx", "pooler_output"))


FAMILIES = {
    "clip-quickgelu-o14": clip_quickgelu_o14,
    "clip-quickgelu-dynamo18": clip_quickgelu_dynamo18,
    "clip-gelu-o13": clip_gelu_o13,
    "clip-gelu-o17": clip_gelu_o17,
    "clip-combined": clip_combined,
    "tinyclip": tinyclip,
    "openclip-vit": openclip_vit,
    "openclip-rn50": openclip_rn50,
    "mobileclip-s0": mobileclip_s0,
    "mobileclip-b": mobileclip_b,
    "siglip": siglip,
}


def main():
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    names = sys.argv[1:] or list(FAMILIES)
    unknown = [it for it in names if it not in FAMILIES]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join(FAMILIES)}")
    for name in names:
        torch.manual_seed(0)
        FAMILIES[name]()


if __name__ == "__main__":
    main()
