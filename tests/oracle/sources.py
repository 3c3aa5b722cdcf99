#!/usr/bin/env python3
"""Makes tests/oracle/sources: small files as numpy, pyarrow, tarfile and json write them, which the
tests of lookout-sources and of `lookout index build` read.

    python3 -m venv venv && venv/bin/pip install numpy pyarrow
    venv/bin/python tests/oracle/sources.py            # from the repository's root

The values are the sequence of `vector` below, so that a test can compute them again.
"""
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).resolve().parent / "sources"
DIMENSION = 4
# Of the starter model's embeddings; these are none of its.
STARTER_DIMENSION = 384
# Not pictures: what decodes them is another crate.
PICTURE = b"\xff\xd8 picture %d \xff\xd9"


def vector(row: int, of: int) -> list[float]:
    return [float((row * 7 + column * 3 + of) % 11 + 1) for column in range(DIMENSION)]


def table(begin: int, end: int, of: int, dtype) -> np.ndarray:
    return np.array([vector(row, of) for row in range(begin, end)], dtype=dtype)


def npy(path: Path, array: np.ndarray, version) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        np.lib.format.write_array(file, array, version=version)


def captions(begin: int, end: int) -> list:
    return [None if row == 5 else f"caption {row}" for row in range(begin, end)]


def metadata(path: Path, begin: int, end: int, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = range(begin, end)
    columns = {
        "image_path": [f"{row:09}" for row in rows],
        "caption": pa.array(captions(begin, end), pa.string()),
        "NSFW": ["UNLIKELY" for _ in rows],
        "similarity": [row / 100 for row in rows],
    }
    pq.write_table(pa.table(columns), path, **options)


def embeddings() -> None:
    # As clip-retrieval lays them out, with more shards than digits sort.
    nested = FOLDER / "clip-retrieval"
    bounds = [(0, 0, 7), (1, 7, 12), (10, 12, 15)]
    for number, begin, end in bounds:
        npy(nested / f"img_emb/img_emb_{number}.npy", table(begin, end, 0, "<f2"), (1, 0))
        npy(nested / f"text_emb/text_emb_{number}.npy", table(begin, end, 5, "<f4"), (2, 0))
        metadata(nested / f"metadata/metadata_{number}.parquet", begin, end)
    # One folder, and what other writers of parquet do.
    flat = FOLDER / "flat"
    ways = [
        dict(compression="zstd", use_dictionary=False, row_group_size=3),
        dict(compression="none", data_page_version="2.0"),
        dict(compression="snappy", data_page_version="2.0", data_page_size=16, write_batch_size=2),
    ]
    for number, way in enumerate(ways):
        begin = number * 6
        npy(flat / f"text_emb_{number:02}.npy", table(begin, begin + 6, 5, "<f2"), (3, 0))
        metadata(flat / f"metadata_{number:02}.parquet", begin, begin + 6, **way)
    # Refused: compressions without a bound, other encodings, columns that are no captions.
    refused = FOLDER / "refused"
    refused.mkdir(parents=True, exist_ok=True)
    texts = pa.table({"caption": ["a", "b"]})
    pq.write_table(texts, refused / "gzip.parquet", compression="gzip")
    pq.write_table(texts, refused / "delta.parquet", use_dictionary=False,
                   column_encoding={"caption": "DELTA_BYTE_ARRAY"})
    pq.write_table(pa.table({"text": ["a"]}), refused / "no-caption.parquet")
    pq.write_table(pa.table({"caption": [["a"], ["b"]]}), refused / "list.parquet")
    pq.write_table(pa.table({"caption": [1, 2]}), refused / "number.parquet")
    np.save(refused / "fortran.npy", np.asfortranarray(table(0, 3, 0, "<f4")))
    np.save(refused / "double.npy", table(0, 3, 0, "<f8"))
    np.save(refused / "big-endian.npy", table(0, 3, 0, ">f4"))
    np.save(refused / "one-dimension.npy", np.arange(3, dtype="<f4"))
    np.save(refused / "object.npy", np.array([{}, {}], dtype=object), allow_pickle=True)


def starter() -> None:
    def wide(begin, end, of, dtype):
        rows = [[(row * 37 + (column * column + 1) * (of + 3) * (row + 2)) % 97 - 48
                 for column in range(STARTER_DIMENSION)] for row in range(begin, end)]
        return np.array(rows, dtype=dtype)

    folder = FOLDER / "starter"
    for number, begin, end in [(0, 0, 7), (1, 7, 12)]:
        npy(folder / f"img_emb/img_emb_{number}.npy", wide(begin, end, 0, "<f2"), (1, 0))
        npy(folder / f"text_emb/text_emb_{number}.npy", wide(begin, end, 5, "<f4"), (1, 0))
        metadata(folder / f"metadata/metadata_{number}.parquet", begin, end)


def shard(path: Path, members: list, form) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, contents in members:
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            # A fraction becomes a pax header, as webdataset's own writer makes them.
            member.mtime = 1700000000.25 if form == tarfile.PAX_FORMAT else 1700000000
            tar.addfile(member, io.BytesIO(contents))


def sample(row: int, described: bool, key: str) -> list:
    members = [(f"{key}.jpg", PICTURE % row)]
    text = f"caption {row}\n"
    if described:
        about = {"key": key, "caption": text, "status": "success", "exif": "{}", "width": 256}
        members.append((f"{key}.json", json.dumps(about).encode()))
    else:
        members.append((f"{key}.txt", text.encode()))
    return members


def webdataset() -> None:
    long = "folder/" * 30 + "key"
    pax = sample(0, False, "000000000") + sample(1, True, "000000001") + sample(2, True, long)
    shard(FOLDER / "webdataset/00000.tar", pax, tarfile.PAX_FORMAT)
    gnu = sample(3, False, "a.b/0") + sample(4, False, long) + [
        ("./no-picture.txt", b"caption"), ("no-caption.png", PICTURE % 5),
        ("two.jpg", PICTURE % 6), ("two.png", PICTURE % 6), ("two.txt", b"caption"),
        ("null.jpg", PICTURE % 7), ("null.json", b'{"caption": null}'),
        ("broken.jpg", PICTURE % 8), ("broken.json", b'{"caption": "a"'),
    ] + sample(9, True, "z")
    shard(FOLDER / "webdataset/00001.tar", gnu, tarfile.GNU_FORMAT)


def coco() -> None:
    images = [{"id": id, "file_name": f"{id:012}.jpg", "height": 4, "width": 4, "license": 1}
              for id in [9, 3, 7]]
    images.append({"id": 8, "file_name": "../outside.jpg"})
    texts = [(7, 1, "A cat on a mat. "), (3, 2, 'Two "dogs" \u2603\n'), (7, 3, "The cat sleeps"),
             (9, 4, " "), (5, 5, "Nobody knows where"), (8, 6, "Out of the folder"), (3, 7, "A dog")]
    annotations = [{"image_id": image, "id": id, "caption": text} for image, id, text in texts]
    (FOLDER / "coco").mkdir(parents=True, exist_ok=True)
    whole = {"info": {"description": "as COCO's captions_*.json"}, "images": images,
             "licenses": [{"id": 1, "name": "none"}], "annotations": annotations}
    (FOLDER / "coco/captions.json").write_text(json.dumps(whole))


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    embeddings()
    starter()
    webdataset()
    coco()
    versions = f"numpy {np.__version__}, pyarrow {pa.__version__}"
    (FOLDER / "README.md").write_text(f"Made by `tests/oracle/sources.py` with {versions}.\n")


main()
