#!/usr/bin/env python3
"""Makes everyday.txt, the background bank, of the starter's captions and of scenes.txt.

    python3 crates/lookout/words/everyday.py           # from the repository's root

A word is taken for a thing where captions often end a noun phrase with it: an article, at most one
word, then the word, then the end of the caption or a word that no thing begins with. Two words are
taken together where most of what the second is, is said with the first ("fire hydrant").
"""
import collections
import re

CAPTIONS = "models/starter/captions.tsv"
SCENES = "crates/lookout/words/scenes.txt"
OUTPUT = "crates/lookout/words/everyday.txt"
FEWEST = 12  # captions with the word as a thing
SHARE = 0.5  # of a word's captions where another stands before it: then both are the thing

ARTICLES = set("a an the his her their its some two three several many".split())
# What ends a noun phrase, and is no thing itself.
ENDS = set(
    """in on at of with and or by is are was near to next from for while that as into under over behind
    beside inside outside up down off it its he she they has have during through above below around
    along across sitting standing holding walking riding laying lying looking flying eating playing
    parked driving filled covered wearing sits stands sit stand""".split()
)
# Ends noun phrases often, and names no thing that could be seen by itself.
VAGUE = set(
    """top front side back middle bunch group couple pair row lot lots number variety picture photo
    photograph image view close shot one it other others another them something someone each day
    time way type kind piece pieces part end edge corner center out white black red blue green brown
    yellow large small little young old big left right background air area distance thing things item
    items display half line set bit ready them what there just about all both who full lap place direction types arms body
    bottom foreground base scene cut adult male event pictures assortment collection roll run walk jump
    looks rides flies lies stack topped made taken wild trying grey plain dressed attached fenced perched
    poses prepares surrounded grazing talking traveling posing jumping smiling leaning waiting working
    sleeping reaching resting setting surface pile case post log""".split()
)


def words(caption):
    return re.findall(r"[a-z]+", caption.lower())


def main():
    alone, pairs, after, seen = (collections.Counter() for _ in range(4))
    with open(CAPTIONS, encoding="utf-8") as file:
        captions = [line.split("\t")[1] for line in file][1:]
    for caption in captions:
        found = words(caption)
        things = set()
        for at, word in enumerate(found):
            seen[word] += 1
            if at:
                after[found[at - 1], word] += 1
            ends = at + 1 == len(found) or found[at + 1] in ENDS
            named = any(it in ARTICLES for it in found[max(0, at - 2) : at])
            if ends and named and len(word) > 2 and word not in ENDS | VAGUE | ARTICLES:
                things.add(word)
        alone.update(things)
    bank = []
    for word, count in sorted(alone.items(), key=lambda it: (-it[1], it[0])):
        # A word that ends phrases seldom is an adjective or a verb.
        if count < FEWEST or count < 0.2 * seen[word]:
            continue
        befores = [(n, first) for (first, second), n in after.items() if second == word]
        n, first = max(befores)
        both = n >= SHARE * seen[word] and first not in ARTICLES | ENDS | VAGUE and len(first) > 2
        bank.append(f"{first} {word}" if both else word)
    with open(SCENES, encoding="utf-8") as file:
        scenes = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    # Of a word and its plural the one that is said more often, which stands first.
    kept = {}
    for word in scenes + bank:
        single = re.sub(r"(?<=[^s])s$", "", re.sub(r"(ch|sh|x|ss)es$", r"\1", word))
        kept.setdefault(single, word)
    with open(OUTPUT, "w", encoding="utf-8") as file:
        file.write("# The background bank: everyday things and scenes. Made by everyday.py of captions of\n")
        file.write("# COCO (CC BY 4.0, models/starter/NOTICE) and scenes.txt; change those and run it again.\n")
        file.writelines(f"{word}\n" for word in kept.values())
    print(f"{len(kept)} words, {len(scenes)} of them scenes")


main()
