"""CUDA toolkits: detection, missing parts, and the tree of links that Jittor builds against.

Jittor 1.3.11 expects one folder with bin/nvcc, include/ and lib64/ that holds a toolkit, its libraries under their
unversioned names, and cuDNN. It was written for CUDA up to 12.2 with cuDNN 8. `prepare` makes such a tree from links to
what is installed: the wheels of `pip install '.[cuda13]'`, or a system's CUDA 12 or 13 with cuDNN 8 or 9. In the tree
the files of `cuda_tree/` take precedence over the toolkit's own and adapt newer versions. Nothing else is modified.
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
# name prefixes of libraries to link; Jittor loads the first six
LIBRARIES = ["cudart", "cublas", "cublasLt", "curand", "cufft", "cusparse", "cudadevrt", "nvJitLink", "nvrtc", "cudnn"]


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit with its cuDNN. `links` maps a path in its tree to the file or folder it links to."""

    root: Path
    cuda: int  # 13000 for 13.0
    cudnn: str  # "9.19.1"; empty if absent
    missing: tuple[str, ...]  # missing headers and libraries of CUDA
    links: dict[str, Path]

    @property
    def complete(self) -> bool:
        """Whether Jittor can be built with it."""
        return bool(self.cudnn) and not self.missing

    @property
    def tree(self) -> Path:
        """The path of its tree, whether or not it exists; keyed by a hash of versions, links and `cuda_tree/`."""
        lines = [f"{self.cuda} {self.cudnn}", *(f"{place} {target}" for place, target in sorted(self.links.items()))]
        content = "\n".join(lines).encode() + b"".join(file.read_bytes() for file in _own_files())
        return cache_home() / "ccnet" / f"cuda-{hashlib.sha256(content).hexdigest()[:12]}"


def cache_home() -> Path:
    """The folder `.cache` that contains Jittor's cache: in JITTOR_HOME, else in the last JITTOR_HOME, else in the home.

    Jittor records each JITTOR_HOME in its config.json and uses the record if the variable is not set.
    """
    try:
        noted = json.loads((Path.home() / ".cache/jittor/config.json").read_text()).get("JITTOR_HOME")
    except (OSError, ValueError, AttributeError):  # absent, or invalid: then Jittor itself fails to start
        noted = None
    return Path(os.environ.get("JITTOR_HOME", noted or Path.home())).absolute() / ".cache"


def find_toolkit() -> Toolkit | None:
    """The first complete toolkit, else the first, of: CUDA_HOME, CUDA_PATH, wheels, nvcc on PATH, usual folders."""
    spec = importlib.util.find_spec("nvidia")
    wheels = [Path(folder) for folder in (spec and spec.submodule_search_locations) or []]
    roots = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    roots += [folder / "cu13" for folder in wheels]
    roots += [Path(found).resolve().parents[1] for found in [shutil.which("nvcc")] if found]
    found = [toolkit for root in [*roots, *USUAL] if (toolkit := read_toolkit(root, wheels))]
    return next((toolkit for toolkit in found if toolkit.complete), found[0] if found else None)


def read_toolkit(root: Path, wheels: Sequence[Path] = ()) -> Toolkit | None:
    """The toolkit in folder `root`, with additions from `wheels` (folders named nvidia) and the system.

    None if there is no nvcc with headers, or if the headers are mixed with the system's, as in Debian's package: links
    to all of them would hide the compiler's own headers.
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
    """Include folders of `root`: include/, targets/*-linux/include/ and their cccl/ (CUB and Thrust in CUDA 13)."""
    places = [root / "include", *sorted(root.glob("targets/*-linux/include"))]
    return [folder for place in places for folder in (place, place / "cccl") if folder.is_dir()]


def _added(wheels: Sequence[Path], major: int) -> list[Path]:
    """Wheel folders for this CUDA major version. All cuDNN wheels share a folder; only their name has the version."""
    cudnn = any(found.name == f"nvidia-cudnn-cu{major}" for found in distributions())
    return [folder / part for folder in wheels for part in [f"cu{major}"] + ["cudnn"] * cudnn]


def _defined(header: Path | None, name: str) -> int:
    if header is None or not header.is_file():
        return 0
    found = re.search(rf"#\s*define\s+{name}\s+(\d+)", header.read_text(errors="replace"))
    return int(found[1]) if found else 0


def _headers(roots: Sequence[Path]) -> dict[str, Path]:
    """Headers and folders of headers of the tree, as links; earlier roots take precedence."""
    files = [file for pattern in ("", "*-linux-gnu/") for file in (SYSTEM / "include").glob(f"{pattern}cudnn*.h")]
    for folder in reversed([folder for root in roots for folder in _includes(root)]):
        files += folder.iterdir()
    return {f"include/{file.name}": file for file in files}


def _libraries(roots: Sequence[Path]) -> dict[str, Path]:
    """Libraries under their own and their unversioned names, which Jittor loads; earlier roots take precedence."""
    files = [file for place in ("lib64", "lib/*-linux-gnu") for file in SYSTEM.glob(f"{place}/libcudnn*.so*")]
    for root in reversed(roots):
        files += [file for place in ("targets/*-linux/lib", "lib", "lib64") for name in LIBRARIES
                  for file in root.glob(f"{place}/lib{name}*")]  # fmt: skip
    links = {f"lib64/{file.name}": file for file in files}
    plain = {place.partition(".so.")[0] + ".so": links[place] for place in sorted(links, key=len, reverse=True)
             if ".so." in place}  # fmt: skip
    # cuDNN 9 merged the infer and train libraries of cuDNN 8, which Jittor loads by name
    merged = {f"lib64/libcudnn_{part}_{half}.so": plain[f"lib64/libcudnn_{part}.so"] for part in ("ops", "cnn")
              for half in ("infer", "train") if f"lib64/libcudnn_{part}.so" in plain}  # fmt: skip
    return merged | plain | links


def _target(links: dict[str, Path], place: str) -> Path | None:
    """The target of a path in the tree, itself a link or inside a linked folder; None if it does not exist."""
    for linked in [Path(place), *Path(place).parents]:
        if found := links.get(str(linked)):
            target = found / Path(place).relative_to(linked)
            return target if target.exists() else None
    return None


def _own_files() -> list[Path]:
    return sorted(file for file in OWN.rglob("*") if file.is_file())


def _behind_own_files(headers: dict[str, Path]) -> dict[str, Path]:
    """`headers`, with those that files of `cuda_tree/` replace and include moved to include/toolkit/."""
    links = dict(headers)
    for file in _own_files():
        place = str(file.relative_to(OWN))
        if real := links.pop(place, None):
            links[place.replace("include/", "include/toolkit/", 1)] = real
    if cub := links.pop("include/cub", None):  # the whole folder: its files may include each other by relative path
        links["include/toolkit/cub"] = cub
        links |= {f"include/cub/{file.name}": file for file in cub.iterdir() if file.name != "cub.cuh"}
    return links


def prepare(toolkit: Toolkit) -> Path:
    """Make the toolkit's tree, atomically, unless it exists; returns its folder. Removes trees of removed toolkits."""
    tree = toolkit.tree
    tree.parent.mkdir(parents=True, exist_ok=True)
    for old in tree.parent.glob("cuda-*"):
        if not (old / "bin" / "toolkit-nvcc").exists():  # the link is dangling: its toolkit was removed
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
            if not tree.is_dir():  # else another process has made the same tree
                raise
    return tree
