#!/usr/bin/env python3
"""Makes the token ids that the tokenizers are checked against. Shares no code with them.

    python3 -m venv venv && venv/bin/pip install open_clip_torch transformers
    venv/bin/python tests/oracle/tokens.py             # from the repository's root

Writes tests/oracle/tokens/: `merges.txt`, the merge rules of OpenAI's CLIP as open_clip ships them;
`clip.json`, texts with what open_clip's SimpleTokenizer and transformers' CLIPTokenizer make of
them; `siglip-tokenizer.json`, a small Unigram tokenizer in the shape of SigLIP's (its own vocabulary
is not needed to check the rules), and `siglip.json`, what it makes of texts in open_clip's canonical
form.
"""
import gzip
import json
from pathlib import Path

import ftfy
import open_clip
import tokenizers
import transformers
from open_clip.tokenizer import SimpleTokenizer, basic_clean, canonicalize_text, default_bpe, get_clean_fn
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/oracle/tokens"
N_MERGES = 49152 - 256 - 2
SIGLIP_CONTEXT = 64
TEXTS = [
    "a cat", "a photo of a dog.", "A PHOTO OF A DOG", "  white space   around\tand inside\n", "x", "!", "7", "",
    " ", "a photo of a person's hat", "don't won't it's they're I'll we've he'd I'm", "DON'T IT'S WE'VE",
    "rock'n'roll", "'s 't 're", "it''s", "1234567890 3.14 1,000 50% $3.50 #1 @home", "2x4 mp3 b2b h2o",
    "a-b_c/d\\e|f", "e-mail: a.b+c@example.org, http://example.org/a_b?c=d&e=f#g", "(man) [woman] {child} <dog>",
    "wow!!! really?!? ... --- ***", "New York, N.Y.: 5'10\" man", "Café naïve façade jalapeños Zürich Ångström",
    "Cafe\u0301 nai\u0308ve decomposed", "ÀÉÎÕÜ ß SS ẞ", "İstanbul ΟΔΟΣ ΣΑΣ ǅ", "кошка на стуле", "γάτα σε καρέκλα",
    "猫が椅子に座っている", "고양이", "一只猫坐在椅子上。", "قطة على كرسي", "חתול", "แมว", "बिल्ली ४२", "smile 😀 and a cat",
    "👨‍👩‍👧‍👦 family 🇩🇪 flag 👍🏽", "❤️ ☕ ✈", "½ ² ³ ① Ⅳ ٣", "R&amp;D &lt;b&gt; &quot;x&quot; &#39;y&#39; &#x27;z&#x27;",
    "Tom &amp;amp; Jerry", "caf&eacute; &copy; 2020 &hellip; &nbsp; end", "AT&T R&D B&B", "5 < 6 &amp; 7 > 3",
    "‘single’ “double” ‚low‛ „low‟", "dash – dash — dash … ellipsis", "ﬁne ﬂow oﬃce ﬀ ﬄ Ĳ ĳ",
    "ＦＵＬＬ　ｗｉｄｔｈ　１２３！ ｶﾀｶﾅ", "soft\u00adhyphen zero\u200bwidth no\u00a0break\u2009thin\u3000wide",
    "tab\tnewline\ncarriage\rform\x0cfeed\x0bvertical", "bell\x07 null\x00 delete\x7f escape\x1b", "bom\ufeff inside",
    "line\u2028separator\u2029paragraph\u0085next", "° ± × ÷ § © ® ™ € £ ¥", "a" * 100, "ab" * 60,
    "supercalifragilisticexpialidocious antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "a man and " * 40 + "a dog", "word " * 74, "word " * 75, "word " * 76, "word " * 77, "😀" * 40, "猫" * 60,
    "!" * 100, "0" * 80, "ſtart 'ſ", "K Å Ω signs", "<|startoftext|>x", "under_score __init__ _", "\"quoted\" `code` ~tilde^",
    "[PAD] [MASK] [SEP]", "Hello, World! How's it going? I'm fine.", "ALLCAPS camelCase snake_case kebab-case",
]


def made_by():
    return {
        "open_clip": open_clip.__version__, "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__, "ftfy": ftfy.__version__, "script": "tests/oracle/tokens.py",
    }


def captions():
    rows = (ROOT / "models/starter/pictures/pictures.tsv").read_text().splitlines()
    column = rows[0].split("\t").index("captions")
    return [it for row in rows[1:] for it in row.split("\t")[column].split(" || ")]


def write(path, samples):
    rows = ",\n".join(json.dumps(it, ensure_ascii=True, separators=(",", ":")) for it in samples)
    path.write_text(f'{{\n"made_by": {json.dumps(made_by())},\n"texts": [\n{rows}\n]\n}}\n')


def clip():
    merges = gzip.open(default_bpe()).read().decode().split("\n")[1:N_MERGES + 1]
    head = "#version: 0.2 (OpenAI CLIP, MIT License, Copyright (c) 2021 OpenAI)"
    (OUT / "merges.txt").write_text("\n".join([head, *merges]) + "\n")
    simple = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(word, word): id for word, id in simple.encoder.items()}
    pairs = [tuple(it.split()) for it in merges]
    fast = transformers.CLIPTokenizer(vocab=vocab, merges=pairs)
    clean = get_clean_fn("lower")
    samples = []
    for text in TEXTS + captions():
        n_tokens = min(77, len(simple.encode(text)) + 2)
        ids = simple(text)[0].tolist()
        assert not any(ids[n_tokens:])
        sample = {"text": text, "clean": clean(text), "ids": ids[:n_tokens]}
        other = fast(text, truncation=True, max_length=77)["input_ids"]
        if other != ids[:n_tokens]:
            sample["transformers"] = other
        samples.append(sample)
    write(OUT / "clip.json", samples)


def siglip():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([canonicalize_text(it) for it in captions()], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(OUT / "siglip-tokenizer.json"), pretty=False)
    tokenizer.enable_truncation(SIGLIP_CONTEXT)
    tokenizer.enable_padding(length=SIGLIP_CONTEXT, pad_id=1, pad_token="</s>")
    samples = []
    for text in TEXTS + captions()[::10]:
        clean = canonicalize_text(basic_clean(text))
        samples.append({"text": text, "clean": clean, "ids": tokenizer.encode(clean).ids})
    write(OUT / "siglip.json", samples)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    clip()
    siglip()
