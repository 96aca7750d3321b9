import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from ccnet import toolkit

SIX = ["cudart", "cublas", "cublasLt", "curand", "cufft", "cusparse"]


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def make_cuda(root: Path, version: int = 13000, *, include: str = "include", lib: str = "lib") -> Path:
    """A made-up toolkit whose nvcc prints its arguments; with CUB where its version has it."""
    write(root / "bin" / "nvcc", '#!/bin/sh\necho "$@"\n').chmod(0o755)
    write(root / include / "cuda_runtime_api.h", f"#define CUDART_VERSION  {version}\n")
    for name in ["cuda_runtime.h", "cublas.h", "curand.h", "cufft.h", "cusparse.h", "crt/host_config.h"]:
        write(root / include / name)
    cub = root / include / ("cccl/cub" if version >= 13000 else "cub")
    write(cub / "cub.cuh")
    write(cub / "config.cuh")
    for name in SIX:
        write(root / lib / f"lib{name}.so.{version // 1000}")
    return root


def make_cudnn(root: Path, major: int = 9, *, lib: str = "lib") -> Path:
    write(root / "include" / "cudnn.h")
    lines = [f"#define CUDNN_{part} {value}" for part, value in (("MAJOR", major), ("MINOR", 19), ("PATCHLEVEL", 1))]
    write(root / "include" / "cudnn_version.h", "\n".join(lines))
    parts = ["ops", "cnn"] if major == 9 else [f"{p}_{h}" for p in ("ops", "cnn") for h in ("infer", "train")]
    for name in ["cudnn", *(f"cudnn_{part}" for part in parts)]:
        write(root / lib / f"lib{name}.so.{major}")
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Caches and the system's folders, where these tests can do no harm and find no cuDNN."""
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(toolkit, "SYSTEM", tmp_path / "usr")


@pytest.mark.parametrize(
    ("version", "cudnn", "places"),
    [
        (13000, 9, {}),
        (12040, 8, {"include": "targets/x86_64-linux/include", "lib": "targets/x86_64-linux/lib"}),
        (12020, 9, {"lib": "lib64"}),
    ],
    ids=["wheels", "targets", "lib64"],
)
def test_the_tree_has_what_jittor_asks_for(tmp_path, version, cudnn, places):
    root = make_cudnn(make_cuda(tmp_path / "cuda", version, **places), cudnn)
    found = toolkit.read_toolkit(root)
    assert (found.root, found.cuda, found.cudnn, found.missing) == (root, version, f"{cudnn}.19.1", ())
    tree = toolkit.prepare(found)
    assert tree == found.tree
    assert tree.parent == tmp_path / "home" / ".cache" / "ccnet"
    libraries = [*SIX, "cudnn", "cudnn_ops_infer", "cudnn_ops_train", "cudnn_cnn_infer", "cudnn_cnn_train"]
    wanted = [f"lib64/lib{name}.so" for name in libraries] + ["include/cub/config.cuh", "include/crt/host_config.h"]
    assert [place for place in wanted if not (tree / place).exists()] == []
    for name in ["cuda_runtime.h", "cudnn.h", "cub/cub.cuh"]:  # ours stand before the real ones, and include them
        assert f'#include "toolkit/{name}"' in (tree / "include" / name).read_text()
        assert (tree / "include" / "toolkit" / name).resolve().is_relative_to(root)
    assert not (tree / "include" / "npp.h").is_symlink()
    assert [path for path in tree.rglob("*") if not path.exists()] == []


def test_its_nvcc_asks_for_what_the_headers_need(tmp_path):
    tree = toolkit.prepare(toolkit.read_toolkit(make_cudnn(make_cuda(tmp_path / "cu da"))))
    arguments = ["-std=c++14", "-DA=b c", "-o", "x y.o"]
    said = subprocess.run([tree / "bin" / "nvcc", *arguments], capture_output=True, text=True, check=True).stdout
    assert said == "-std=c++17 -DA=b c -o x y.o\n"


@pytest.mark.parametrize(
    ("gpus", "asked", "passed"),
    [
        ("sm_120", "-arch=compute_90 -code=sm_90", "-arch=compute_90 -code=sm_120"),
        ("sm_90,sm_120", "-arch=compute_80 -code=sm_80 -code=sm_90", "-arch=compute_80 -code=sm_80 -code=sm_90,sm_120"),
        ("sm_90", "-arch=compute_90 -code=sm_90", "-arch=compute_90 -code=sm_90"),
        ("", "-arch=compute_90 -code=sm_90", "-arch=compute_90 -code=sm_90"),
    ],
)
def test_its_nvcc_makes_code_for_the_gpus_that_are_here(tmp_path, monkeypatch, gpus, asked, passed):
    tree = toolkit.prepare(toolkit.read_toolkit(make_cudnn(make_cuda(tmp_path / "cuda"))))
    monkeypatch.setenv("CCNET_GPU_CODE", gpus)
    command = [tree / "bin" / "nvcc", *asked.split()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{passed}\n"


def test_a_tree_belongs_to_what_it_was_made_of(tmp_path, monkeypatch):
    root = make_cudnn(make_cuda(tmp_path / "cuda"))
    first = toolkit.prepare(toolkit.read_toolkit(root))
    stamp = first.stat().st_mtime_ns
    assert toolkit.prepare(toolkit.read_toolkit(root)) == first
    assert first.stat().st_mtime_ns == stamp
    make_cuda(root, 13010)  # upgraded in place
    second = toolkit.prepare(toolkit.read_toolkit(root))
    assert second != first
    (root / "bin" / "nvcc").rename(tmp_path / "nvcc")  # gone: so its trees go
    third = toolkit.prepare(toolkit.read_toolkit(make_cudnn(make_cuda(tmp_path / "other"))))
    assert list(third.parent.iterdir()) == [third]


def test_a_tree_is_whole_or_not_there(tmp_path, monkeypatch):
    found = toolkit.read_toolkit(make_cudnn(make_cuda(tmp_path / "cuda")))
    link = Path.symlink_to

    def full_disk(self, target):
        if self.name == "libcudnn.so":
            raise OSError(28, "No space left on device")
        link(self, target)

    monkeypatch.setattr(Path, "symlink_to", full_disk)
    with pytest.raises(OSError, match="No space"):
        toolkit.prepare(found)
    assert list(found.tree.parent.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "home"))
    with ThreadPoolExecutor(8) as pool:  # as many jobs of a cluster may
        assert set(pool.map(toolkit.prepare, [found] * 8)) == {found.tree}
    assert list(found.tree.parent.iterdir()) == [found.tree]


def test_what_is_missing_is_named(tmp_path):
    root = make_cuda(tmp_path / "cuda")
    (root / "include" / "cublas.h").unlink()
    (root / "include" / "cccl" / "cub" / "cub.cuh").unlink()
    (root / "lib" / "libcufft.so.13").unlink()
    found = toolkit.read_toolkit(root)
    assert found.missing == ("cublas.h", "cub/cub.cuh", "libcufft.so")
    assert found.cudnn == ""
    make_cudnn(root)
    for half in (root / "lib" / "libcudnn.so.9", root / "include" / "cudnn.h"):
        half.rename(tmp_path / "away")
        assert toolkit.read_toolkit(root).cudnn == ""
        (tmp_path / "away").rename(half)
    assert toolkit.read_toolkit(root).cudnn == "9.19.1"


def test_the_systems_cudnn_counts_but_for_a_toolkits_own(tmp_path):
    root = make_cuda(tmp_path / "cuda")
    make_cudnn(tmp_path / "usr", lib="lib/x86_64-linux-gnu")
    found = toolkit.read_toolkit(root)
    assert found.cudnn == "9.19.1"
    assert found.links["lib64/libcudnn.so"] == tmp_path / "usr/lib/x86_64-linux-gnu/libcudnn.so.9"
    make_cudnn(root, 8)
    found = toolkit.read_toolkit(root)
    assert found.cudnn == "8.19.1"
    assert found.links["lib64/libcudnn_ops_infer.so"] == root / "lib/libcudnn_ops_infer.so.8"


def test_wheels_of_cudnn_count_for_the_cuda_they_are_made_for(tmp_path, monkeypatch):
    root, wheels = make_cuda(tmp_path / "cuda"), tmp_path / "site" / "nvidia"
    make_cudnn(wheels / "cudnn")
    monkeypatch.syspath_prepend(tmp_path / "site")
    for major, version in ((12, ""), (13, "9.19.1")):
        write(tmp_path / "site" / f"nvidia_cudnn_cu{major}-9.19.1.dist-info" / "METADATA",
              f"Metadata-Version: 2.1\nName: nvidia-cudnn-cu{major}\nVersion: 9.19.1\n")  # fmt: skip
        assert toolkit.read_toolkit(root, [wheels]).cudnn == version


def test_what_is_no_toolkit(tmp_path):
    assert toolkit.read_toolkit(tmp_path / "nowhere") is None
    write(tmp_path / "bare" / "bin" / "nvcc").chmod(0o755)
    assert toolkit.read_toolkit(tmp_path / "bare") is None
    write(make_cuda(tmp_path / "debian") / "include" / "stdlib.h")
    assert toolkit.read_toolkit(tmp_path / "debian") is None


def test_where_toolkits_are_sought(tmp_path, monkeypatch):
    """CUDA_HOME before the wheels before PATH; what is complete before what is not."""
    on_path, named, site = make_cuda(tmp_path / "path"), make_cuda(tmp_path / "named"), tmp_path / "site"
    monkeypatch.setattr(toolkit, "USUAL", [])
    monkeypatch.setattr(toolkit.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert toolkit.find_toolkit() is None
    monkeypatch.setenv("PATH", str(on_path / "bin"))
    assert toolkit.find_toolkit().root == on_path
    spec = SimpleNamespace(submodule_search_locations=[str(site / "nvidia")])
    monkeypatch.setattr(toolkit.importlib.util, "find_spec", lambda name: spec)
    wheels = make_cuda(site / "nvidia" / "cu13")
    assert toolkit.find_toolkit().root == wheels
    monkeypatch.setenv("CUDA_HOME", str(named))
    assert toolkit.find_toolkit().root == named
    make_cudnn(wheels)
    (named / "lib" / "libcufft.so.13").unlink()
    (wheels / "lib" / "libcufft.so.13").rename(wheels / "lib" / "libcufft.so.12")
    assert toolkit.find_toolkit().root == named  # the wheels complete it
    make_cuda(named, 12040)
    assert toolkit.find_toolkit().root == wheels


def test_the_home_that_jittor_noted_counts_where_none_is_set(tmp_path, monkeypatch):
    """As in jittor_utils.home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JITTOR_HOME", raising=False)
    note = tmp_path / ".cache/jittor/config.json"
    note.parent.mkdir(parents=True)
    assert toolkit.cache_home() == tmp_path / ".cache"
    note.write_text(json.dumps({"JITTOR_HOME": str(tmp_path / "elsewhere")}))
    assert toolkit.cache_home() == tmp_path / "elsewhere/.cache"
    for damaged in ("{", "[]", "{}"):
        note.write_text(damaged)
        assert toolkit.cache_home() == tmp_path / ".cache"
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "set"))
    assert toolkit.cache_home() == tmp_path / "set/.cache"
