"""Figures of `lookout eval` for the tables of models/README.md.

    eval.py LOOKOUT 'NAME=ARGS'...

NAME is what a set is called, ARGS are arguments of `lookout eval`: a table of pictures, with --labels where its
classes are not the labels that it has, or --embeddings FOLDER; and --unknown with pictures that show none of
the classes. Where that is not given, every second class is taken away, and the pictures that show only such
ones are the unknown; the other figures are of all classes. First come the picture alone and `pooled` in every
figure, then every way to make labels in one figure each.
"""
import csv
import json
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np

BASE, OURS = "image only", "pooled"


def evaluate(lookout, args):
    done = subprocess.run([lookout, "eval", "--json", *args], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"lookout eval {shlex.join(args)} failed")
    return json.loads(done.stdout)["sets"][0]


def labels_of(row):
    cells = [row.get("label") or "", *(row.get("labels") or "").split("|")]
    return {it.strip().lower() for it in cells if it.strip()}


def table_held_out(table, labels, folder):
    """A table of what shows kept classes and one of what shows none, and the arguments for them."""
    table = Path(table)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    args = []
    if labels is None:
        kept = set(sorted(set().union(*map(labels_of, rows)))[::2])
    else:
        # The blocks of the file, those of negatives behind the last label's among them.
        head, *blocks = re.split(r"^(?=\[\[label\]\])", Path(labels).read_text(), flags=re.MULTILINE)
        chosen = head + "".join(blocks[::2])
        (folder / "labels.toml").write_text(chosen)
        args = ["--labels", str(folder / "labels.toml"), "--skip-unmatched"]
        kept = {it["name"].lower() for it in tomllib.loads(chosen)["label"]}
    for name, is_in in [("known.tsv", lambda it: it & kept), ("unknown.tsv", lambda it: it and not it & kept)]:
        with (folder / name).open("w") as file:
            file.write("file\tlabels\tcaptions\n")
            for row in filter(lambda row: is_in(labels_of(row)), rows):
                path = next(it for it in [table.parent / row["file"], table.parent / "pictures" / row["file"]]
                            if it.exists())
                labels_now = "|".join(sorted(labels_of(row) & kept))
                file.write(f"{path.resolve()}\t{labels_now}\t{row.get('captions') or ''}\n")
    return [*args, str(folder / "known.tsv"), "--unknown", str(folder / "unknown.tsv")]


def embeddings_held_out(source, folder):
    source = Path(source)
    names = (source / "classes.txt").read_text().splitlines()
    with (source / "truth.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    images, classes = np.load(source / "images.npy"), np.load(source / "classes.npy")
    kept = set(names[::2])
    shown = [set(filter(None, row["classes"].split("|"))) for row in rows]
    for name, mine, is_in in [("known", kept, lambda it: it & kept),
                              ("unknown", set(names) - kept, lambda it: it and not it & kept)]:
        part = folder / name
        part.mkdir()
        for file in ["captions.npy", "captions.txt", "set.json"]:
            (part / file).symlink_to((source / file).resolve())
        at = [i for i, it in enumerate(names) if it in mine]
        np.save(part / "classes.npy", classes[at])
        (part / "classes.txt").write_text("".join(f"{names[i]}\n" for i in at))
        chosen = [i for i, it in enumerate(shown) if is_in(it)]
        np.save(part / "images.npy", images[[int(rows[i]["row"]) for i in chosen]])
        lines = [f"{n}\t{'|'.join(sorted(shown[i] & mine))}\t{rows[i]['own_captions']}\n"
                 for n, i in enumerate(chosen)]
        (part / "truth.tsv").write_text("row\tclasses\town_captions\n" + "".join(lines))
    return ["--embeddings", str(folder / "known"), "--unknown", str(folder / "unknown")]


def held_out(lookout, args):
    with tempfile.TemporaryDirectory() as folder:
        rest = list(args)

        def take(flag):
            at = rest.index(flag) if flag in rest else None
            return None if at is None else [rest.pop(at), rest.pop(at)][1]
        embeddings, labels = take("--embeddings"), take("--labels")
        if embeddings is not None:
            rest += embeddings_held_out(embeddings, Path(folder))
        else:
            rest = rest[:-1] + table_held_out(rest[-1], labels, Path(folder))
        return evaluate(lookout, rest)


def figure(value, percent=True):
    return "-" if value is None else f"{100 * value:.1f}" if percent else f"{value:.3f}"


def change(it):
    if it is None:
        return "-"
    star = "*" if it["verdict"] in ("better", "worse") else ""
    return f"{it['points']:+.1f} ({it['low']:+.1f} to {it['high']:+.1f}){star}"


def print_table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main(lookout, *sets):
    found = []
    for it in sets:
        name, args = it.split("=", 1)
        args = shlex.split(args)
        whole = evaluate(lookout, args)
        known = whole if "--unknown" in args else held_out(lookout, args)
        of = lambda report: {it["variant"]: it for it in report["parts"][0]["variants"]}
        found.append((name, whole, known, of(whole), of(known)))
        print(f"{name}: done", file=sys.stderr)
    rows = []
    for name, whole, known, all_, held in found:
        both = lambda key, of, percent=True: [figure(of[it][key], percent) for it in (BASE, OURS)]
        shared = whole["cpu_ms"]
        ms = [shared["decode"], shared["encode"], shared["search"], all_[OURS]["cpu_ms"]]
        rows.append([
            name, str(whole["parts"][0]["scored"]), str(whole["labels"]),
            " / ".join(both("top1", all_)), " / ".join(both("top5", all_)), " / ".join(both("ece", all_)),
            figure(all_[OURS]["accepted_right"]) + " / " + figure(all_[OURS]["accepted_wrong"]),
            f"{known['parts'][0]['known']} / {known['unknown']}",
            " / ".join([*both("auroc", held, False), figure(known["parts"][0]["auroc_of_cosine"], False)]),
            " + ".join("-" if it is None else f"{it:.1f}" for it in ms),
        ])
    print_table(["set", "pictures", "classes", "top-1: picture / pooled", "top-5", "ECE",
                 "accepted: right / wrong", "known / unknown", "AUROC: picture / pooled / cosine",
                 "ms: decode + encode + search + pooled"], rows)
    variants = list(dict.fromkeys(it for one in found for it in one[3]))
    for what, key, at, show in [
        ("Change of top-1", "change", 3, change),
        ("Top-5", "top5", 3, figure),
        ("ECE", "ece", 3, figure),
        ("AUROC", "auroc", 4, lambda it: figure(it, False)),
        ("ms beyond what all share", "cpu_ms", 3, lambda it: f"{it:.2f}"),
    ]:
        mine = [it for it in variants if key != "change" or it != BASE]
        print(f"{what}:\n")
        print_table(["set", *mine], [
            [one[0], *(show(one[at][it][key]) if it in one[at] else "-" for it in mine)] for one in found])


if __name__ == "__main__":
    main(*sys.argv[1:])
