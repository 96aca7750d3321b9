import io
import multiprocessing
import pickle

import h5py
import numpy as np
import pytest
from PIL import Image

from ccnet import InputError
from ccnet.data import hdf5, labels
from ccnet.data.shards import Record, ShardReader, Skipped, write_shard

CLASSES = ["road", "天空"]
PALETTE = [[1, 2, 3], [250, 0, 9]]


def record(name, seed):
    """A record with a seeded random image and label, and the arrays it must decode to."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(3, 30, 2))
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    label = rng.choice(np.array([0, 1, 255], np.uint8), (height, width))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    stored = Record(name, buffer.getvalue(), labels.encode(label), width, height, labels.histogram(label, 2))
    return stored, image, label


def write(path, seeds, classes=CLASSES, split="train"):
    made = [record(f"图 {seed}", seed) for seed in seeds]
    write_shard(path, (stored for stored, *_ in made), class_names=classes, palette=PALETTE, split=split)
    return made


def test_what_is_written_is_read(tmp_path):
    made = write(tmp_path / "a.h5", range(5)) + write(tmp_path / "b.h5", range(5, 7))
    reader = ShardReader([tmp_path / "a.h5", tmp_path / "b.h5"])
    assert len(reader) == 7
    assert reader.names == [f"图 {seed}" for seed in range(7)]
    assert (reader.class_names, reader.palette, reader.splits) == (CLASSES, PALETTE, ["train", "train"])
    assert reader.histogram.tolist() == np.sum([stored.histogram for stored, *_ in made], axis=0).tolist()
    for position, (stored, image, label) in enumerate(made):
        assert np.array_equal(reader[position][0], image)
        assert np.array_equal(reader[position][1], label)
        assert reader.encoded(position) == (stored.image, stored.label)
        assert reader.sizes[position].tolist() == [stored.width, stored.height]


def test_the_size_that_images_were_shrunk_to_is_sealed(tmp_path):
    write(tmp_path / "whole.h5", range(2))
    write_shard(tmp_path / "small.h5", [], class_names=CLASSES, palette=PALETTE, split="train", max_size=640)
    reader = ShardReader([tmp_path / "whole.h5", tmp_path / "small.h5"])
    reader.verify()
    assert reader.max_sizes == [None, 640]
    for change in (lambda file: file.attrs.modify("max_size", 641), lambda file: file.attrs.__delitem__("max_size")):
        with h5py.File(tmp_path / "small.h5", "r+") as file:
            change(file)
        hdf5.seal(tmp_path / "small.h5", ["images", "labels"])
        with pytest.raises(InputError, match=r"small\.h5: its contents do not match its checksum"):
            reader.verify()


def test_skipped_pairs_are_kept_by_name_and_reason_however_many(tmp_path):
    skipped = [Skipped(f"图 {number}", "labels/图.png: the file is empty" * 9) for number in range(500)]  # over 64 KB
    records = [skipped[0], record("a", 0)[0], *skipped[1:]]
    write_shard(tmp_path / "some.h5", records, class_names=CLASSES, palette=PALETTE, split="train")
    write(tmp_path / "none.h5", range(2))
    reader = ShardReader([tmp_path / "some.h5", tmp_path / "none.h5"])
    reader.verify()
    assert reader.skipped == skipped
    assert reader.names == ["a", "图 0", "图 1"]
    with h5py.File(tmp_path / "some.h5", "r+") as file:
        file["skipped"][7, 1] = "another reason"
    hdf5.seal(tmp_path / "some.h5", ["images", "labels"])
    with pytest.raises(InputError, match=r"some\.h5: its contents do not match its checksum"):
        reader.verify()


def test_positions_behave_as_in_any_sequence(tmp_path):
    write(tmp_path / "a.h5", range(3))
    reader = ShardReader([tmp_path / "a.h5"])
    assert np.array_equal(reader[-1][1], reader[2][1])
    assert len(list(reader)) == 3
    for position in (3, -4):
        with pytest.raises(IndexError):
            reader[position]


def test_the_same_records_give_the_same_file(tmp_path):
    write(tmp_path / "a.h5", range(3))
    write(tmp_path / "b.h5", range(3))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_an_empty_shard_is_readable(tmp_path):
    write(tmp_path / "empty.h5", [])
    write(tmp_path / "full.h5", range(2))
    empty = ShardReader([tmp_path / "empty.h5"])
    empty.verify()
    assert (len(empty), empty.names, empty.sizes.shape, empty.histogram.tolist()) == (
        0,
        [],
        (0, 2),
        [0, 0, 0],
    )
    both = ShardReader([tmp_path / "empty.h5", tmp_path / "full.h5"])
    assert len(both) == 2
    assert np.array_equal(both[0][1], ShardReader([tmp_path / "full.h5"])[0][1])


def test_more_than_a_chunk_is_streamed(tmp_path):
    blobs = [np.random.default_rng(seed).bytes(700_000) for seed in range(12)]
    records = (Record(str(seed), blob, blob[:9], 1, 1, np.zeros(3, int)) for seed, blob in enumerate(blobs))
    write_shard(tmp_path / "a.h5", records, class_names=CLASSES, palette=PALETTE, split="val")
    reader = ShardReader([tmp_path / "a.h5"])
    reader.verify()
    assert [reader.encoded(position) for position in range(12)] == [(blob, blob[:9]) for blob in blobs]


def test_a_failing_source_leaves_nothing_behind(tmp_path):
    def records():
        yield record("a", 0)[0]
        raise InputError("the second is bad")

    with pytest.raises(InputError, match="the second is bad"):
        write_shard(tmp_path / "a.h5", records(), class_names=CLASSES, palette=PALETTE, split="train")
    assert list(tmp_path.iterdir()) == []


def test_any_flipped_bit_is_found_or_harmless(tmp_path):
    """In stored files and in a sample of all other bytes: the flip is found, or the shard reads as it was."""
    path = tmp_path / "a.h5"
    write(path, range(3))
    data, original = path.read_bytes(), ShardReader([path])
    expected = [original.encoded(position) for position in range(3)]
    bulk = [data.index(blob) + len(blob) // 2 for pair in expected for blob in pair]
    rng = np.random.default_rng(0)
    nonzero = np.flatnonzero(np.frombuffer(data, np.uint8))
    for place in [*bulk, *rng.choice(nonzero, 150, replace=False)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        complaint = _complaint(path)
        assert complaint is None or str(path) in complaint
        if complaint is None:
            reader = ShardReader([path])
            assert place not in bulk
            assert [reader.encoded(position) for position in range(3)] == expected
            assert (reader.names, reader.class_names) == (original.names, original.class_names)


def test_a_shard_of_an_earlier_version_is_to_be_prepared_again(tmp_path):
    path = tmp_path / "a.h5"
    write(path, range(3))
    with h5py.File(path, "r+"):
        pass  # HDF5 cuts off what is behind its data
    with pytest.raises(InputError, match=r"a\.h5: .*made by an earlier version\): delete it and prepare it again"):
        ShardReader([path])


def _complaint(path):
    try:
        ShardReader([path]).verify()
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("keep", [0, 100, 3000, -1])
def test_a_truncated_shard_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "cut.h5"
    write(path, range(3))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"cut\.h5: damaged, or not a shard"):
        ShardReader([path]).verify()


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = np.zeros(3)
    for name, reason in (
        ("text.h5", "not a shard"),
        ("other.h5", "not a shard"),
        ("none.h5", "no such shard"),
    ):
        with pytest.raises(InputError, match=rf"{name}: .*{reason}"):
            ShardReader([tmp_path / name])


def test_shards_of_different_classes_do_not_mix(tmp_path):
    write(tmp_path / "a.h5", range(2))
    write(tmp_path / "b.h5", range(2), classes=["road", "sea"])
    with pytest.raises(InputError, match=r"b\.h5: its classes differ from those of .*a\.h5"):
        ShardReader([tmp_path / "a.h5", tmp_path / "b.h5"])


def test_no_shards_at_all_is_an_error():
    with pytest.raises(InputError, match="no shards"):
        ShardReader([])


def test_a_reader_in_use_can_be_pickled(tmp_path):
    write(tmp_path / "a.h5", range(2))
    reader = ShardReader([tmp_path / "a.h5"])
    expected = reader[0][1]
    assert np.array_equal(pickle.loads(pickle.dumps(reader))[0][1], expected)
    assert np.array_equal(reader[0][1], expected)


def test_a_reader_in_use_survives_forks(tmp_path):
    write(tmp_path / "a.h5", range(8))
    reader = ShardReader([tmp_path / "a.h5"])
    expected = [reader.encoded(position) for position in range(8)]
    context = multiprocessing.get_context("fork")
    verdicts = context.SimpleQueue()

    def child():
        for _ in range(20):
            verdicts.put(all(reader.encoded(position) == expected[position] for position in range(8)))

    children = [context.Process(target=child) for _ in range(2)]
    for process in children:
        process.start()
    assert all(verdicts.get() for _ in range(40))
    for process in children:
        process.join()
    assert [reader.encoded(position) for position in range(8)] == expected
