"""Each dataset from its publisher's files to the report, by its preset."""

import hashlib
import html
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from ccnet.data import catalog
from ccnet.data.download import BLOCK, file_name
from tests.serving import serving
from tests.weights.published_files import PUBLISHED, pack, write
from tests.workflow.conftest import ROOT, Workplace

# What shrinks a preset's experiment, but for its dataset and its evaluation.
SHRUNK = {
    "training": {"steps": 2, "batch_size": 2, "crop_size": 32, "pretrained": None},
    "runs": dict.fromkeys(["resnet18", "resnet50", "resnet101", "van_base"])
    | {"van_tiny": {"head_channels": 16, "warmup_steps": 0}},
    "workers": 0,
}
# Run at the start of each process: the publisher's archives have other addresses and digests.
SERVED = """
from dataclasses import replace
from ccnet.data.catalog import DATASETS
entry, served = DATASETS[{name!r}], {served!r}
archives = (replace(archive, urls=(url,), sha1=sha1) for archive, (url, sha1) in zip(entry.archives, served))
DATASETS[{name!r}] = replace(entry, archives=tuple(archives))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_from_the_publishers_files_to_the_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    published, workplace = PUBLISHED[name], Workplace(tmp_path)
    counts = write(published, tmp_path / "published")
    archives = pack(published, tmp_path / "published")
    assert [file_name(archive.urls[0]) for archive in catalog.DATASETS[name].archives] == list(archives)
    sizes = [len(data) for data in archives.values()]
    cuts = [sizes[0] // 2, sizes[0] // 4] if sizes else []
    with serving({f"/{file}": data for file, data in archives.items()}, cuts=list(cuts)) as site:
        serve_as_publisher(monkeypatch, tmp_path / "served", name, site.url, archives)
        dataset = {"name": name, "source": None if archives else "published", "shards": {"train": 2, "val": 1}}
        overlay = workplace.overlay(yaml.safe_dump(SHRUNK | {"dataset": dataset, "evaluation": published.evaluation}))
        done = workplace.snakemake(overlays=(*presets(name), overlay))
    assert done.returncode == 0, done.stderr
    assert [sent for *_, sent in site.requests[:2]] == cuts
    if cuts and cuts[0] >= BLOCK:  # else nothing was kept that could be resumed
        assert all(asked and asked != "bytes=0-" for _, asked, _ in site.requests[1:3])
    assert len(site.requests) == len(cuts) + len(archives)

    results = tmp_path / "results" / name
    described = json.loads((results / "labels.json").read_text())
    own = published.beside.get("classes.txt", b"").decode().splitlines()
    assert described["class_names"] == list(catalog.DATASETS[name].class_names or own)
    for split, of_raw in zip(("train", "val"), counts, strict=True):
        found = described["splits"][split]
        assert found["images"] == len(list(published.pairs.values())[split == "val"])
        assert found["pixels"] == of_raw[list(published.raw)].tolist()
        assert found["ignored_share"] == pytest.approx(of_raw[list(published.void)].sum() / of_raw.sum())

    for protocol, asked in protocols(name).items():
        measured = results / "van_tiny" / ("metrics.json" if protocol == "standard" else f"metrics_{protocol}.json")
        metrics = json.loads(measured.read_text())
        assert list(metrics["per_class"]) == described["class_names"]
        assert 0 <= metrics["mean_iou"] <= 1
        assert metrics["protocol"]["scales"] == asked.get("scales", [1.0])
        assert metrics["protocol"]["flip"] == asked.get("flip", False)
        if "fixed" not in asked:  # scored at the label maps' own size: every labelled pixel, once
            assert np.sum(metrics["confusion"], axis=1).tolist() == described["splits"]["val"]["pixels"]

    page = html.unescape((results / "report.html").read_text())
    assert f"<h1>{name}</h1>" in page
    assert all(f"</i>{class_name}</th>" in page for class_name in described["class_names"])
    assert all(f">{protocol}<" in page for protocol in protocols(name) if protocol != "standard")


def serve_as_publisher(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, url: str, archives: dict[str, bytes]
) -> None:
    """Make `url` the publisher's site in the processes that follow."""
    served = [(f"{url}/{file}", hashlib.sha1(data).hexdigest()) for file, data in archives.items()]
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SERVED.format(name=name, served=served))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def presets(name: str) -> list[Path]:
    return [] if name == "folder" else [ROOT / f"workflow/presets/{name}.yaml"]


def protocols(name: str) -> dict[str, dict]:
    """The preset's evaluation protocols; config.yaml's for a folder."""
    (path,) = presets(name) or [ROOT / "config.yaml"]
    return yaml.safe_load(path.read_text())["evaluation"]


def test_an_archive_that_is_not_the_publishers_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Behind a proxy that serves something else at the publisher's own address."""
    (archive,) = catalog.DATASETS["ade20k"].archives
    (address,) = archive.urls
    write(PUBLISHED["ade20k"], tmp_path / "published")
    (data,) = pack(PUBLISHED["ade20k"], tmp_path / "published").values()
    with serving({address: data}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        done = Workplace(tmp_path).snakemake("fetch", overlays=presets("ade20k"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = {line.strip() for line in done.stderr.splitlines() if "checksum" in line}
    assert line.startswith("ccnet fetch: error: cannot download ADEChallengeData2016.zip: ")
    assert f"{address}: the checksum of what it serves is not 219e1696abb36c8ba3a3afe7fb2f4b4606a897c7" in line
    assert not [path for path in (tmp_path / "results/ade20k/source").rglob("*") if path.is_file()]
