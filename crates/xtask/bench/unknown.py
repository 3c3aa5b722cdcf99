"""How many pictures get a label that show none, and how many keep the right one that show one.

    unknown.py LOOKOUT BUNDLE PICTURES.tsv [DRAWS]

PICTURES.tsv has the columns file and label; files lie beside it or in its folder `pictures`. Of its labels 2, 4, 8
and 20 are drawn DRAWS times (25 where it is not said), by a fixed seed. Pictures of other labels show none of
them. Each draw is one `lookout classify`, and means over the draws are told: by the decision as it is, by
`enter` and `margin` alone, and by other bounds above the background.
"""
import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

N_LABELS = [2, 4, 8, 20]
DRAWS = 25
SCORES = [0.4, 0.5, 0.6]
MARGINS = [0.1, 0.2, 0.3]
SIGMAS = [1, 1.5, 2, 2.5, 3]


def classify(lookout, bundle, labels, files):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        for n, name in enumerate(labels):
            file.write(f"[[label]]\nid = \"l{n}\"\nname = {json.dumps(name)}\n")
        file.flush()
        command = [lookout, "classify", "--json", "--no-taught", "--model", bundle, "--labels", file.name, *files]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("lookout classify failed")
    return [json.loads(line) for line in done.stdout.splitlines()]


def shares(answers, accepts):
    """Of known pictures those with the right label and with a wrong one, of the others those with any."""
    known = [(it["top"], it["right"]) if accepts(it) else (None, it["right"]) for it in answers if it["right"]]
    others = [accepts(it) for it in answers if not it["right"]]
    return (sum(got == right for got, right in known) / len(known),
            sum(got not in (None, right) for got, right in known) / len(known),
            sum(others) / len(others))


def told(draws, accepts):
    right, wrong, none = zip(*(shares(it, accepts) for it in draws))
    return f"{statistics.mean(right):.0%} / {statistics.mean(wrong):.0%} / {statistics.mean(none):.0%}"


def print_table(title, head, rows):
    print(f"{title}:\n\n| " + " | ".join(map(str, head)) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def main(lookout, bundle, table, n_draws=DRAWS):
    table, rng = Path(table), random.Random(0)
    with table.open(newline="") as file:
        rows = [it for it in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if it["label"]]
    files = [next(str(it) for it in [table.parent / row["file"], table.parent / "pictures" / row["file"]]
                  if it.exists()) for row in rows]
    names = sorted({row["label"] for row in rows})
    decision = tomllib.loads((Path(bundle) / "model.toml").read_text())["decision"]
    draws = {}
    for n in filter(lambda it: it < len(names), N_LABELS):
        for _ in range(int(n_draws)):
            labels = rng.sample(names, n)
            lines = classify(lookout, bundle, labels, files)
            answers = []
            for row, it in zip(rows, lines):
                top, *rest = sorted(it["scores"].items(), key=lambda it: -it[1])
                answers.append({
                    "right": f"l{labels.index(row['label'])}" if row["label"] in labels else None,
                    "top": top[0], "score": top[1], "margin": top[1] - rest[0][1], "sigma": it["sigma"],
                    "is_accepted": it["state"] == "label",
                })
            draws.setdefault(n, []).append(answers)
    plain = lambda enter, margin: lambda it: enter <= it["score"] and margin <= it["margin"]
    enter, margin = decision["enter"], decision["margin"]
    usual = plain(enter, margin)
    print(f"{len(rows)} pictures of {len(names)} labels, {n_draws} draws. Right label kept / wrong label / a label "
          "though none fits.\n")
    spread = lambda n: statistics.stdev(shares(it, lambda it: it["is_accepted"])[2] for it in draws[n])
    print_table("As it decides, and without a bound above the background",
                ["labels", "as it decides", "deviation of the last", "`enter` and `margin` alone"],
                [[n, told(it, lambda it: it["is_accepted"]), f"{spread(n):.0%}", told(it, usual)]
                 for n, it in draws.items()])
    print_table("By other bounds, in sigmas above the background", ["labels", *SIGMAS],
                [[n, *(told(it, lambda it, at=at: usual(it) and at <= it["sigma"]) for at in SIGMAS)]
                 for n, it in draws.items()])
    n = max(draws)
    print_table(f"By other scores (rows) and margins (columns), {n} labels, without a bound", ["enter", *MARGINS],
                [[at, *(told(draws[n], plain(at, by)) for by in MARGINS)] for at in SCORES])


if __name__ == "__main__":
    main(*sys.argv[1:])
