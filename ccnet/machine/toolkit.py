"""A CUDA toolkit: which one is here, what it lacks, and the tree made of it that Jittor builds against.

Jittor 1.3.11 wants one folder with bin/nvcc, include/ and lib64/ that holds a toolkit, its libraries under their plain
names, and cuDNN; it was written for CUDA up to 12.2 with cuDNN 8. `prepare` makes such a tree, of links to what is
installed: the wheels of `pip install '.[cuda13]'`, or a system's CUDA 12 or 13 with cuDNN 8 or 9. The files of
`cuda_tree/` stand in it before the toolkit's own and cover what has changed since. Nothing else is touched.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

OWN = Path(__file__).with_name("cuda_tree")
SYSTEM = Path("/usr")
USUAL = [Path("/usr/local/cuda"), Path("/opt/cuda")]
HEADERS = ["cuda_runtime.h", "cublas.h", "curand.h", "cufft.h", "cusparse.h", "crt/host_config.h", "cub/cub.cuh"]
# with what begins like them; Jittor loads the first six
LIBRARIES = ["cudart", "cublas", "cublasLt", "curand", "cufft", "cusparse", "cudadevrt", "nvJitLink", "nvrtc", "cudnn"]


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit with what belongs to it. `links`: path in its tree -> the file or folder it is to point at."""

    root: Path
    cuda: int  # 13000 for 13.0
    cudnn: str  # "9.19.1"; empty where there is none
    missing: tuple[str, ...]  # headers and libraries of CUDA
    links: dict[str, Path]

    @property
    def complete(self) -> bool:
        """Whether Jittor can be built with it."""
        return bool(self.cudnn) and not self.missing

    @property
    def tree(self) -> Path:
        """Where its tree is or would be: another toolkit, or a ccnet with other files of its own, has another."""
        lines = [f"{self.cuda} {self.cudnn}", *(f"{place} {target}" for place, target in sorted(self.links.items()))]
        content = "\n".join(lines).encode() + b"".join(file.read_bytes() for file in _own_files())
        return cache_home() / "ccnet" / f"cuda-{hashlib.sha256(content).hexdigest()[:12]}"


def cache_home() -> Path:
    """The folder of caches in which Jittor has its own: below JITTOR_HOME, else the one it last had, else at home.

    Jittor notes each JITTOR_HOME in its config.json, and goes by that where the variable is not set.
    """
    try:
        noted = json.loads((Path.home() / ".cache/jittor/config.json").read_text()).get("JITTOR_HOME")
    except (OSError, ValueError, AttributeError):  # none, or damaged: Jittor itself will not start with that
        noted = None
    return Path(os.environ.get("JITTOR_HOME", noted or Path.home())).absolute() / ".cache"


def find_toolkit() -> Toolkit | None:
    """The first complete one, else the first, of: CUDA_HOME, the wheels, the nvcc on PATH, the usual folders."""
    spec = importlib.util.find_spec("nvidia")
    wheels = [Path(folder) for folder in (spec and spec.submodule_search_locations) or []]
    roots = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    roots += [folder / "cu13" for folder in wheels]
    roots += [Path(found).resolve().parents[1] for found in [shutil.which("nvcc")] if found]
    found = [toolkit for root in [*roots, *USUAL] if (toolkit := read_toolkit(root, wheels))]
    return next((toolkit for toolkit in found if toolkit.complete), found[0] if found else None)


def read_toolkit(root: Path, wheels: Sequence[Path] = ()) -> Toolkit | None:
    """The toolkit in folder `root`, with what the `wheels` (folders named nvidia) and the system add to it.

    None where there is no nvcc with headers, or where these are mixed with the system's, as in Debian's package: a
    tree of links to all of them would hide the compiler's own.
    """
    root = root.resolve()
    cuda = max([_defined(folder / "cuda_runtime_api.h", "CUDART_VERSION") for folder in _includes(root)], default=0)
    if not cuda or not os.access(root / "bin" / "nvcc", os.X_OK) or (root / "include" / "stdlib.h").exists():
        return None
    roots = [root, *_added(wheels, cuda // 1000)]
    headers, libraries = _headers(roots), _libraries(roots)
    missing = [name for name in HEADERS if not _target(headers, f"include/{name}")]
    missing += [f"lib{name}.so" for name in LIBRARIES[:6] if f"lib64/lib{name}.so" not in libraries]
    version = [str(_defined(headers.get("include/cudnn_version.h"), f"CUDNN_{part}"))
               for part in ("MAJOR", "MINOR", "PATCHLEVEL")]  # fmt: skip
    whole = version[0] != "0" and "include/cudnn.h" in headers and "lib64/libcudnn.so" in libraries
    links = _behind_own_files(headers) | libraries | {"bin/toolkit-nvcc": root / "bin" / "nvcc"}
    return Toolkit(root, cuda, ".".join(version) if whole else "", tuple(missing), links)


def _includes(root: Path) -> list[Path]:
    """CUDA 13 has CUB and Thrust one level down; a toolkit may have everything below targets/."""
    places = [root / "include", *sorted(root.glob("targets/*-linux/include"))]
    return [folder for place in places for folder in (place, place / "cccl") if folder.is_dir()]


def _added(wheels: Sequence[Path], major: int) -> list[Path]:
    """Folders of wheels made for this major version. cuDNN's are in one place for all: their name alone says it."""
    cudnn = any(found.name == f"nvidia-cudnn-cu{major}" for found in distributions())
    return [folder / part for folder in wheels for part in [f"cu{major}"] + ["cudnn"] * cudnn]


def _defined(header: Path | None, name: str) -> int:
    if header is None or not header.is_file():
        return 0
    found = re.search(rf"#\s*define\s+{name}\s+(\d+)", header.read_text(errors="replace"))
    return int(found[1]) if found else 0


def _headers(roots: Sequence[Path]) -> dict[str, Path]:
    """Every header, or folder of headers, that the tree is to have: the first root that has one counts."""
    files = [file for pattern in ("", "*-linux-gnu/") for file in (SYSTEM / "include").glob(f"{pattern}cudnn*.h")]
    for folder in reversed([folder for root in roots for folder in _includes(root)]):
        files += folder.iterdir()
    return {f"include/{file.name}": file for file in files}


def _libraries(roots: Sequence[Path]) -> dict[str, Path]:
    """Every library, under the names it has and the plain one that Jittor asks for; the first root counts."""
    files = [file for place in ("lib64", "lib/*-linux-gnu") for file in SYSTEM.glob(f"{place}/libcudnn*.so*")]
    for root in reversed(roots):
        files += [file for place in ("targets/*-linux/lib", "lib", "lib64") for name in LIBRARIES
                  for file in root.glob(f"{place}/lib{name}*")]  # fmt: skip
    links = {f"lib64/{file.name}": file for file in files}
    plain = {place.partition(".so.")[0] + ".so": links[place] for place in sorted(links, key=len, reverse=True)
             if ".so." in place}  # fmt: skip
    # cuDNN 9 merged what cuDNN 8 had split, and Jittor loads the halves by name
    merged = {f"lib64/libcudnn_{part}_{half}.so": plain[f"lib64/libcudnn_{part}.so"] for part in ("ops", "cnn")
              for half in ("infer", "train") if f"lib64/libcudnn_{part}.so" in plain}  # fmt: skip
    return merged | plain | links


def _target(links: dict[str, Path], place: str) -> Path | None:
    """What a path of the tree leads to, be it a link itself or inside a linked folder; None where nothing is."""
    for linked in [Path(place), *Path(place).parents]:
        if found := links.get(str(linked)):
            target = found / Path(place).relative_to(linked)
            return target if target.exists() else None
    return None


def _own_files() -> list[Path]:
    return sorted(file for file in OWN.rglob("*") if file.is_file())


def _behind_own_files(headers: dict[str, Path]) -> dict[str, Path]:
    """`headers`, with those that our own stand before, and include, moved to include/toolkit/."""
    links = dict(headers)
    for file in _own_files():
        place = str(file.relative_to(OWN))
        if real := links.pop(place, None):
            links[place.replace("include/", "include/toolkit/", 1)] = real
    if cub := links.pop("include/cub", None):  # as a whole: its files may include each other by their place
        links["include/toolkit/cub"] = cub
        links |= {f"include/cub/{file.name}": file for file in cub.iterdir() if file.name != "cub.cuh"}
    return links


def prepare(toolkit: Toolkit) -> Path:
    """Make the toolkit's tree, whole or not at all, unless it is there; returns its folder."""
    tree = toolkit.tree
    tree.parent.mkdir(parents=True, exist_ok=True)
    for old in tree.parent.glob("cuda-*"):
        if not (old / "bin" / "toolkit-nvcc").exists():  # its toolkit was removed
            shutil.rmtree(old, ignore_errors=True)
    if tree.is_dir():
        return tree
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix=".cuda-") as scratch:
        made = Path(shutil.copytree(OWN, Path(scratch) / "tree"))
        (made / "bin" / "nvcc").chmod(0o755)
        for place, target in toolkit.links.items():
            (made / place).parent.mkdir(parents=True, exist_ok=True)
            (made / place).symlink_to(target)
        try:
            made.rename(tree)
        except OSError:
            if not tree.is_dir():  # else another process was first, with the same
                raise
    return tree
