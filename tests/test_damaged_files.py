"""Files changed at random: whatever their readers make of them, it is a result or one line, never a crash."""

import hashlib
import io
import json
import pickle
import random
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from ccnet import InputError
from ccnet.data import classes, coco, index, labels, polygons
from ccnet.data.shards import ShardReader
from ccnet.weights import checkpoints, files, published
from tests import tiny

COUNT = 500  # files of each kind
TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(3, 2), "b": np.ones(4, np.float32)}


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, left out, put in or repeated, or all from some place on."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place, count = rng.randrange(len(changed) or 1), rng.choice([1, 2, 8])
        kind = rng.randrange(6)
        if kind < 2:
            changed[place : place + 1] = rng.choice([b"\xff", b"\x00", b"(", b"R", b"]", b"9", rng.randbytes(1)])
        elif kind == 2:
            changed[place : place + count] = rng.choice([b"\xff" * count, b"\x00" * count, rng.randbytes(count)])
        elif kind == 3:
            del changed[place : place + count]
        elif kind == 4:
            changed[place:place] = changed[place : place + 20] * 2
        elif rng.random() < 0.2:
            del changed[place:]
    return bytes(changed)


def headed(rng: random.Random, data: bytes) -> bytes:
    """Safetensors with a mutated header of the right length."""
    (length,) = struct.unpack("<Q", data[:8])
    header = mutated(rng, data[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def summed(rng: random.Random, data: bytes) -> bytes:
    """A Jittor file whose checksum is that of its mutated pickle."""
    pickled = mutated(rng, data[:-28])
    return pickled + hashlib.sha1(pickled).digest() + published.JITTOR_END


def by_torch(zipped: bool) -> bytes:
    import torch

    file = io.BytesIO()
    state = {name: torch.from_numpy(values).half() for name, values in TENSORS.items()}
    torch.save({"state_dict": state, "meta": {"CLASSES": ("a", "b")}}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def read_published(path: Path) -> None:
    for tensor in published.read(path).tensors.values():
        with suppress(ValueError):  # which import-weights names
            assert tensor.numpy().nbytes <= 4 * path.stat().st_size


def read_shard(path: Path) -> None:
    reader = ShardReader([path])
    for position in range(len(reader)):
        with suppress(InputError):
            reader[position]
    reader.verify()


def read_checkpoint(path: Path) -> None:
    path.rename(path.with_name("a_step_00000001.safetensors"))
    checkpoints.Checkpoints(path.parent, "a").load()


def read_polygons(path: Path) -> None:
    label = polygons.decode(path.read_bytes(), str(path), ["wall", "door"])
    assert set(np.unique(label)) <= {0, 1, 255}


def read_coco(path: Path) -> None:
    for pair in coco.extract(path, path.parent, path.with_name("divided")).pairs:
        assert pair.label.parent == path.with_name("divided")
        with suppress(InputError):  # which names a file that is not the changed one
            polygons.decode(pair.label.read_bytes(), str(pair.label), ["wall", "door"])


def read_table(path: Path) -> None:
    found = classes.read(path.rename(path.with_name("classes.csv")))
    assert len(found.names) == len(found.palette)


def read_index(path: Path) -> None:
    contents = index.Index.read(path)
    with suppress(InputError):
        contents.coding().decode(labels.encode(np.eye(9, dtype=np.uint8)), "a.png")


def annotations(count: int) -> dict:
    segmentations = [[[0, 0, 9, 0, 9.5, 7]], {"size": [7, 9], "counts": "0o1"}, {"size": [7, 9], "counts": [9, 54]}]
    return {
        "images": [{"id": place, "file_name": f"a/{place}.jpg", "height": 7, "width": 9} for place in range(count)],
        "categories": [{"id": 1, "name": "wall"}, {"id": 2, "name": "door"}],
        "annotations": [
            {"image_id": place, "category_id": 1 + place % 2, "iscrowd": 0, "segmentation": segmentation}
            for place in range(count)
            for segmentation in segmentations
        ],
    }


LABELME = {
    "imageHeight": 7,
    "imageWidth": 9,
    "shapes": [
        {"label": "wall", "shape_type": "circle", "points": [[3, 3], [4, 5.5]]},
        {"label": "door", "shape_type": "rectangle", "points": [[3, 3], [4, 5.5]]},
        {"label": "door", "points": [[3, 3], [4, 5.5], [0, 1]]},
    ],
}
TABLE = "name,red,green,blue,value\nwall,200,40,40,17\ndoor,40,200,40,300\nignore,0,0,0,0\n"
INDEX = index.Index(
    class_names=["a", "b"],
    palette=[(0, 0, 0), (1, 1, 1)],
    label_table={0: 0, 1: 1},
    colour_table={"0 0 0": 0, "1 2 3": 1},
    pairs={"train": [index.Listed("a", "a.jpg", "a.png")]},
)
HEADER = {"step": "24", "history": json.dumps([{"step": 10, "loss": 1.5}]), "class_names": '["a", "b"]'}
KINDS = {
    "zip": (lambda: by_torch(True), mutated, read_published),
    "stream": (lambda: by_torch(False), mutated, read_published),
    "jittor": (lambda: pickle.dumps(TENSORS, 4) + bytes(28), summed, read_published),
    "pickle": (lambda: pickle.dumps(TENSORS, 2), mutated, read_published),
    "safetensors": (lambda: save(TENSORS, HEADER), headed, files.read),
    "checkpoint": (lambda: save(TENSORS, HEADER), headed, read_checkpoint),
    "coco": (lambda: json.dumps(annotations(2)).encode(), mutated, read_coco),
    "coco of one image": (lambda: json.dumps(annotations(1)).encode(), mutated, read_polygons),
    "labelme": (lambda: json.dumps(LABELME).encode(), mutated, read_polygons),
    "classes": (TABLE.encode, mutated, read_table),
    "index": (INDEX.model_dump_json().encode, mutated, read_index),
    "shard": (None, mutated, read_shard),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_changed_at_random(tmp_path, kind):
    make, change, read = KINDS[kind]
    whole = make() if make else tiny.shard(tmp_path / "whole.h5", range(2), size=(9, 7)).read_bytes()
    rng, said = random.Random(kind), []
    for _ in range(COUNT):
        path = tmp_path / "file"
        path.write_bytes(change(rng, whole))
        try:
            read(path)
        except InputError as error:
            said.append(str(error))
    assert said or kind == "checkpoint"  # which is passed over
    assert all("\n" not in line and line.startswith(str(tmp_path)) for line in said)
