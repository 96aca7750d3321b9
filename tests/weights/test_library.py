"""Published weights by name, with random numbers in the published names and shapes, served under the table's paths."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from ccnet import InputError, weights
from ccnet.commands import import_weights, segment, settings, train
from ccnet.data import catalog
from ccnet.data import download as downloading
from ccnet.models import BACKBONES
from ccnet.settings import Settings
from ccnet.training.trainer import Trainer
from ccnet.weights import library
from tests import tiny
from tests.serving import Site, serving
from tests.weights import naming

ENTRIES = dict(library.ENTRIES)
KINDS = {"resnet": "torchvision", "deep": "ResNetV1c", "van": "VAN", "mmseg": "mmsegmentation"}


def kind(name: str) -> str:
    """The kind, in `naming`, of an entry's file."""
    return next(KINDS[mark] for mark in ("mmseg", "deep", "van", "resnet") if mark in name)


@pytest.fixture
def site(monkeypatch):
    """A mirror that serves nothing yet."""
    monkeypatch.setattr(downloading, "FIRST_PAUSE", 0.0)
    with serving({}) as site:
        monkeypatch.setenv(library.MIRROR, f"{site.url}/")
        yield site


@pytest.fixture
def publish(site: Site, monkeypatch, tmp_path):
    """A function that has the mirror serve an entry's file, random numbers with as many classes; our names for them."""
    import torch

    def serve(name: str, **beside) -> dict[str, np.ndarray]:
        entry = ENTRIES[name]
        classes = len(catalog.lookup(entry.dataset).class_names) if entry.part == "network" else naming.CLASSES
        _, ours, theirs = naming.published(kind(name), entry.backbone, classes)
        tensors = {key: torch.from_numpy(np.array(values)) for key, values in theirs.items()}
        torch.save({"state_dict": tensors, **beside}, tmp_path / "published")
        data = (tmp_path / "published").read_bytes()
        site.files[urlsplit(entry.url).path] = data
        digest = entry.digest and hashlib.sha256(data).hexdigest()[:8]
        monkeypatch.setitem(library.ENTRIES, name, replace(entry, digest=digest))
        return ours

    return serve


def test_the_table_is_consistent():
    """Digest prefixes are those in the files' names; each backbone has its ImageNet weights; datasets are known."""
    for entry in ENTRIES.values():
        named = re.search(r"-([0-9a-f]{8})\.pth$", entry.url)
        assert entry.digest == (named[1] if named else None)
        assert entry.url.startswith("https://")
        assert entry.backbone in BACKBONES
        assert (entry.part == "network") == entry.name.startswith("mmseg-") == bool(entry.miou)
        assert entry.part == "backbone" or catalog.lookup(entry.dataset).class_names
        assert entry.settings == ({"align_corners": True} if "769x769" in entry.url else {})
    assert {f"imagenet-{name}" for name in BACKBONES} < set(ENTRIES)
    assert len({entry.url for entry in ENTRIES.values()}) == len(ENTRIES) == 21
    assert {name for name, entry in ENTRIES.items() if entry.digest is None} == {
        f"imagenet-{name}" for name in BACKBONES if name.startswith("van")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ENTRIES if name.startswith("imagenet-")])
def test_a_training_begins_with_imagenet_weights(name, publish, tmp_path, trained, capsys):
    ours, imported = publish(name), tmp_path / "pretrained/w.safetensors"
    import_weights.run(source=name, out=imported)
    assert load_file(imported).keys() == ours.keys()
    flat = tiny.flat(backbone=ENTRIES[name].backbone, deep_stem="deep" in name, steps=2)
    settings.run(flat=flat, out=tmp_path / "settings.json", pretrained=imported)
    model = json.loads((tmp_path / "settings.json").read_text())["model"]
    assert model["stem_channels"] == (32 if "deep" in name else None)
    begun = Trainer(Settings.read(tmp_path / "settings.json"), 4)
    begun.begin(None, imported, tiny.CLASSES)
    values = weights.state_arrays(begun.model)
    for key, value in ours.items():
        np.testing.assert_array_equal(values[key], value, err_msg=key)
    assert f"  matched        {len(ours):>5}  backbone." in capsys.readouterr().err
    out = tmp_path / "run/weights.safetensors"
    train.run(settings=tmp_path / "settings.json", shards=trained.shards, checkpoints=tmp_path / "run/checkpoints",
              out=out, history=tmp_path / "run/history.csv", pretrained=imported, workers=0, device="cpu")  # fmt: skip
    segmented(out, tmp_path)


def segmented(path: Path, folder: Path) -> None:
    (folder / "photos").mkdir()
    Image.fromarray(tiny.draw(9)[0]).save(folder / "photos/a.png")
    segment.run(inputs=[folder / "photos"], weights_file=path, out=folder / "segmented", device="cpu")
    assert "a.png,ok" in (folder / "segmented/index.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmseg-ade20k-r101", "mmseg-cityscapes-r50-769", "mmseg-voc2012-r50"])
def test_a_trained_ccnet_segments_at_once_and_is_trained_from(name, publish, tmp_path, trained, capsys):
    # the names of classes that mmsegmentation notes are not needed
    ours, out = publish(name, meta={"CLASSES": ("what", "ever")}), tmp_path / "w.safetensors"
    import_weights.run(source=name, out=out)
    report = capsys.readouterr().out
    assert f"  matched        {len(ours):>5}  backbone.conv1.weight, " in report
    assert all(f"  {title:<15}    0" in report for title in ("unused", "missing", "shape mismatch"))
    arrived = load_file(out)
    assert arrived.keys() == ours.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(arrived[key], value, err_msg=key)
    loaded, dataset = weights.load(out), catalog.lookup(ENTRIES[name].dataset)
    assert loaded.class_names == list(dataset.class_names)
    assert loaded.palette == [list(colour) for colour in dataset.palette]
    model = loaded.settings.model
    assert (model.stem_channels, model.auxiliary_channels, model.align_corners) == (32, 256, name.endswith("769"))
    segmented(out, tmp_path)

    flat = tiny.flat(backbone=model.backbone, head_channels=None, output_stride=8, fusion=False, auxiliary_channels=256,
                     steps=2)  # fmt: skip
    settings.run(flat=flat, out=tmp_path / "settings.json", pretrained=out)
    train.run(settings=tmp_path / "settings.json", shards=trained.shards, checkpoints=tmp_path / "run/checkpoints",
              out=tmp_path / "run/weights.safetensors", history=tmp_path / "run/history.csv", pretrained=out,
              workers=0, device="cpu")  # fmt: skip
    said = capsys.readouterr().err
    assert f"  matched        {len(ours) - 4:>5}  backbone.conv1.weight, " in said
    assert "  unused             4  auxiliary.classifier.conv.bias, auxiliary.classifier.conv.weight, class" in said
    assert "4 (wall, door, floor, sheep) here: the classifiers start anew" in said


VAN = "imagenet-van_tiny"
PATH = urlsplit(ENTRIES[VAN].url).path


def test_a_download_is_resumed_and_its_whole_digest_printed_and_pinned(publish, site, tmp_path, capsys):
    publish(VAN)
    site.cuts = [10 * downloading.BLOCK]
    path = library.fetch(library.lookup(VAN), tmp_path)
    digest = hashlib.sha256(site.files[PATH]).hexdigest()
    assert [asked for _, asked, _ in site.requests] == [None, f"bytes={10 * downloading.BLOCK}-"]
    assert path.read_bytes() == site.files[PATH]
    assert f"{path}: SHA-256 {digest}\n" in capsys.readouterr().out
    assert path.with_name("van_tiny_754.pth.tar.sha256").read_text() == f"{digest}  van_tiny_754.pth.tar\n"
    library.fetch(library.lookup(VAN), tmp_path)
    assert len(site.requests) == 2


def test_another_file_than_the_pinned_one_is_refused(publish, site, tmp_path):
    publish(VAN)
    path = library.fetch(library.lookup(VAN), tmp_path)
    path.unlink()
    site.files[PATH] += b"changed"
    with pytest.raises(
        InputError, match=r"checksum of what it serves .*van_tiny_754\.pth\.tar\.sha256 pins"
    ) as refused:
        library.fetch(replace(library.lookup(VAN), url=site.url + PATH), tmp_path)
    assert "\n" not in str(refused.value)
    assert not path.exists()


def test_a_pin_that_is_none_is_named(publish, tmp_path):
    publish(VAN)
    (tmp_path / "van_tiny_754.pth.tar.sha256").write_text("?")
    with pytest.raises(InputError, match=r"van_tiny_754\.pth\.tar\.sha256: no SHA-256 in it; delete it"):
        library.fetch(library.lookup(VAN), tmp_path)


def test_a_file_with_another_digest_than_its_name_says_is_refused(site, tmp_path):
    entry = replace(ENTRIES["imagenet-resnet18"], url=f"{site.url}/resnet18-f37072fd.pth")
    site.files["/resnet18-f37072fd.pth"] = b"anything else"
    with pytest.raises(InputError, match=r"resnet18-f37072fd\.pth: the checksum of what it serves is not f37072fd"):
        library.fetch(entry, tmp_path)
    assert not list(tmp_path.glob("*.pth"))


def test_the_publisher_is_asked_where_the_mirror_has_nothing(site, tmp_path, monkeypatch):
    with serving({PATH: b"weights"}) as publisher:
        entry = replace(ENTRIES[VAN], url=publisher.url + PATH)
        assert library.fetch(entry, tmp_path).read_bytes() == b"weights"
    assert [path for path, *_ in site.requests] == [PATH]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mmseg-ade20k-r10", r"did you mean mmseg-ade20k-r101\?"),
        ("imagenet-resnet34-deep", r"did you mean imagenet-resnet\d+(-deep)?\?"),
        ("???", "the name of published weights; `ccnet weights` lists them"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest(name, said):
    with pytest.raises(InputError, match=said):
        library.lookup(name)
