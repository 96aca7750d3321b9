import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ccnet import InputError
from ccnet.commands import prepare
from ccnet.data import labels
from ccnet.data.shards import ShardReader

PALETTE = [[0, 0, 0], [9, 9, 9], [200, 0, 0]]


def image_file(path, size=(12, 8), seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def label_array(size=(12, 8), values=(0, 1, 2, 255), seed=0):
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), (size[1], size[0]))


def label_file(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path):
    """Seven sound pairs of three classes, and their index.json."""
    pairs = []
    for number in range(7):
        image, label = f"images/街 {number}.jpg", f"labels/街 {number}.png"
        image_file(tmp_path / image, seed=number)
        label_file(tmp_path / label, label_array(seed=number))
        pairs.append([f"街 {number}", image, label])
    write_index(tmp_path, pairs)
    return tmp_path


def write_index(folder, pairs, label_table=None):
    index = {"class_names": ["a", "b", "c"], "palette": PALETTE, "label_table": label_table}
    (folder / "index.json").write_text(json.dumps({**index, "pairs": {"train": pairs, "val": pairs[:2]}}))


def run(folder, split="train", shard=0, of=1, max_size=None, limit=None, on_bad_pair="fail"):
    out = folder / f"{split}-{shard}-of-{of}.h5"
    prepare.run(index=folder / "index.json", split=split, shard=shard, of=of, max_size=max_size, limit=limit,
                on_bad_pair=on_bad_pair, out=out)  # fmt: skip
    return ShardReader([out])


def test_files_are_kept_byte_for_byte(folder):
    reader = run(folder)
    reader.verify()
    assert reader.names == [f"街 {number}" for number in range(7)]
    assert (reader.class_names, reader.palette, reader.splits) == (["a", "b", "c"], PALETTE, ["train"])
    for number in range(7):
        image, label = reader.encoded(number)
        assert image == (folder / f"images/街 {number}.jpg").read_bytes()
        assert label == (folder / f"labels/街 {number}.png").read_bytes()
    everything = np.concatenate([reader[number][1].ravel() for number in range(7)])
    assert reader.histogram.tolist() == [int((everything == value).sum()) for value in (0, 1, 2, 255)]


@pytest.mark.parametrize("table", [None, {"0": 0, "1": 1, "2": 2, "300": 255}])
def test_a_matlab_label_map_is_stored_as_a_png(folder, table):
    raw = label_array(values=(0, 1, 2)).astype(np.uint16)
    expected = raw.copy()
    if table:
        raw[0], expected[0] = 300, 255
    savemat(folder / "a.mat", {"LabelMap": raw})
    write_index(folder, [["a", "images/街 0.jpg", "a.mat"]], table)
    reader = run(folder)
    assert reader.encoded(0)[1].startswith(b"\x89PNG")
    assert np.array_equal(reader[0][1], expected)


@pytest.mark.parametrize("limit", [None, 5, 100])
def test_shards_partition_the_split_after_the_limit(folder, limit):
    parts = [run(folder, shard=shard, of=3, limit=limit).names for shard in range(3)]
    expected = run(folder, limit=limit).names
    assert len(expected) == min(limit or 7, 7)
    assert sorted(name for part in parts for name in part) == expected
    assert parts[1] == expected[1::3]


def test_more_shards_than_images_leaves_empty_ones(folder):
    reader = run(folder, split="val", shard=2, of=3)
    reader.verify()
    assert len(reader) == 0


def test_labels_are_renumbered_by_the_table(folder):
    raw = label_array(values=(7, 9, 30))
    label_file(folder / "labels/raw.png", raw)
    write_index(folder, [["raw", "images/街 0.jpg", "labels/raw.png"]], {"7": 2, "9": 255, "30": 0})
    label = run(folder)[0][1]
    for value, train_id in ((7, 2), (9, 255), (30, 0)):
        assert (label[raw == value] == train_id).all()


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("png", "PNG"), ("bmp", "JPEG")])
def test_oversized_pairs_shrink_and_stay_aligned(folder, suffix, kind):
    halves = np.zeros((40, 60), np.uint8)
    halves[:, 30:] = 1
    Image.fromarray(np.stack([halves * 255] * 3, axis=-1)).save(folder / f"images/large.{suffix}")
    label_file(folder / "labels/large.png", halves)
    write_index(folder, [["large", f"images/large.{suffix}", "labels/large.png"]])
    reader = run(folder, max_size=30)
    image, label = reader[0]
    assert image.shape == (20, 30, 3)
    assert reader.sizes.tolist() == [[30, 20]]
    assert reader.max_sizes == [30]
    assert Image.open(io.BytesIO(reader.encoded(0)[0])).format == kind
    assert label[:, :15].max() == 0
    assert label[:, 15:].min() == 1
    assert image[:, :13].max() < 60
    assert image[:, 17:].min() > 190


def test_a_shrunk_thread_keeps_a_pixel_of_width(folder):
    image_file(folder / "images/thread.png", size=(100, 1))
    label_file(folder / "labels/thread.png", np.zeros((1, 100), np.uint8))
    write_index(folder, [["thread", "images/thread.png", "labels/thread.png"]])
    image, label = run(folder, max_size=10)[0]
    assert (image.shape, label.shape) == ((1, 10, 3), (1, 10))


def test_a_pair_of_just_the_size_is_kept(folder):
    assert run(folder, max_size=12).encoded(0)[0] == (folder / "images/街 0.jpg").read_bytes()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


DAMAGE = {
    "can be decoded": (lambda image, label: truncate(image), "{image}: cannot be decoded"),
    "is an image": (lambda image, label: image.write_text("<html>"), "{image}: not an image"),
    "is not empty": (lambda image, label: image.write_bytes(b""), "{image}: the file is empty"),
    "exists": (lambda image, label: image.unlink(), "{image}: there is no such image"),
    "has a label": (lambda image, label: label.unlink(), "{label}: there is no such label map"),
    "agrees in size": (
        lambda image, label: label_file(label, label_array((6, 8))),
        "{image}: is 12×8, its label {label} 6×8",
    ),
    "has no colours": (
        lambda image, label: Image.new("RGB", (12, 8)).save(label),
        "{label}: a label map has one value a pixel; this one is RGB: list its colours in classes.csv",
    ),
    "has small values": (
        lambda image, label: Image.new("I;16", (12, 8), 700).save(label),
        "{label}: label values 700 are not among the dataset's (0–2, 255)",
    ),
    "has whole numbers": (
        lambda image, label: Image.new("F", (12, 8)).save(label, "TIFF"),
        "{label}: a label map has whole numbers, a palette or RGB colours; this one is F",
    ),
    "is no JPEG": (
        lambda image, label: Image.new("L", (12, 8)).save(label, "JPEG"),
        "{label}: a label map cannot be a",
    ),
    "is in the table": (
        lambda image, label: label_file(label, label_array(values=(0, 200))),
        "{label}: label values 200 are not among the dataset's (0–2, 255)",
    ),
    "is labelled": (
        lambda image, label: label_file(label, label_array(values=(255,))),
        "{label}: every pixel is ignored",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_each_kind_of_bad_pair_is_named(folder, case):
    harm, reason = DAMAGE[case]
    image, label = folder / "images/街 3.jpg", folder / "labels/街 3.png"
    harm(image, label)
    with pytest.raises(InputError) as caught:
        run(folder)
    assert "1 of 7 pairs cannot be used" in str(caught.value)
    assert "`snakemake -R fetch_dataset`, or `ccnet fetch` again" in str(caught.value)
    assert "dataset.on_bad_pair: skip, or --on-bad-pair skip" in str(caught.value)
    assert reason.format(image=image, label=label) in str(caught.value)
    assert list(folder.glob("*.h5")) == []


@pytest.mark.parametrize("case", DAMAGE)
def test_each_kind_of_bad_pair_can_be_skipped(folder, capsys, case):
    harm, reason = DAMAGE[case]
    image, label = folder / "images/街 3.jpg", folder / "labels/街 3.png"
    harm(image, label)
    reader = run(folder, on_bad_pair="skip")
    reader.verify()
    assert reader.names == [f"街 {number}" for number in range(7) if number != 3]
    (skipped,) = reader.skipped
    assert skipped.name == "街 3"
    assert reason.format(image="images/街 3.jpg", label="labels/街 3.png") in skipped.reason
    assert str(folder) not in skipped.reason
    told = capsys.readouterr().err
    assert f"\nskipped: {folder}/" in told
    assert reason.format(image=image, label=label) in told


def test_a_sound_split_is_the_same_shard_whether_skipping_or_not(folder):
    shards = [run(folder, on_bad_pair=choice).paths[0].read_bytes() for choice in ("fail", "skip")]
    assert shards[0] == shards[1]


def test_where_every_pair_is_bad_skipping_is_no_remedy(folder):
    for label in folder.glob("labels/*.png"):
        label.write_bytes(b"")
    with pytest.raises(InputError, match="7 of 7 pairs cannot be used: mend them, or name another source:") as caught:
        run(folder)
    assert "skip" not in str(caught.value)


def test_where_every_pair_is_skipped_their_reasons_are_kept(folder):
    for label in folder.glob("labels/*.png"):
        label.write_bytes(b"")
    reader = run(folder, on_bad_pair="skip")
    reader.verify()
    assert (len(reader), len(reader.skipped)) == (0, 7)


def test_all_findings_come_at_once_and_the_list_is_capped(folder, monkeypatch):
    monkeypatch.setattr(prepare, "LISTED", 3)
    for number in (0, 2, 3, 5, 6):
        (folder / f"labels/街 {number}.png").write_bytes(b"")
    with pytest.raises(InputError, match="5 of 7") as caught:
        run(folder)
    lines = str(caught.value).splitlines()
    assert [number for number in range(7) for line in lines if f"街 {number}.png" in line] == [0, 2, 3]
    assert lines[-1].strip() == "… and 2 more"


def test_an_image_that_exif_turns_is_explained(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    image_file(folder / "images/街 0.jpg", size=(8, 12), exif=exif)
    with pytest.raises(InputError, match="its EXIF orientation turns it: save it upright"):
        run(folder)


def test_an_orientation_that_is_text_hides_no_reason(folder):
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHI4s", 8, 1, 0x0112, 2, 2, b"6") + bytes(4)
    image_file(folder / "images/街 0.jpg", size=(8, 12), exif=exif)
    with pytest.raises(InputError, match=r"街 0\.jpg: is 8×12, its label"):
        run(folder)


def test_an_image_that_training_could_not_read_is_a_bad_pair(folder):
    """A palette image without its palette: Pillow decodes it, and cannot make RGB of it."""
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", 12, 8, 8, 3, 0, 0, 0),
        b"tRNS": b"\xff\xff\xff\0",
        b"IDAT": zlib.compress(bytes(8 * 13)),
        b"IEND": b"",
    }
    chunks = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
              for kind, body in parts.items()]  # fmt: skip
    (folder / "images/街 0.jpg").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.raises(InputError, match=r"1 of 7 pairs(.|\n)*街 0\.jpg: cannot be decoded"):
        run(folder)


def test_a_palette_label_is_read_by_index(folder):
    array = label_array(seed=3)
    labels.save_palette_png(folder / "labels/街 0.png", array, PALETTE)
    assert np.array_equal(run(folder)[0][1], array)


@pytest.mark.parametrize("option", ["max_size", "limit"])
@pytest.mark.parametrize("value", [0, -1])
def test_bounds_below_one_are_refused(folder, option, value):
    with pytest.raises(InputError, match=rf"--{option.replace('_', '-')} {value}: must be at least 1"):
        run(folder, **{option: value})
    assert list(folder.glob("*.h5")) == []


@pytest.mark.parametrize("shard", [-1, 2])
def test_a_shard_number_out_of_range_is_refused(folder, shard):
    with pytest.raises(InputError, match="from 0 to 1"):
        run(folder, shard=shard, of=2)


def test_a_missing_index_and_a_missing_split_are_named(folder):
    with pytest.raises(InputError, match=r"has no split 'test', only train, val"):
        run(folder, split="test")
    (folder / "index.json").unlink()
    with pytest.raises(InputError, match=r"index\.json: cannot be read .* fetch the dataset first"):
        run(folder)
