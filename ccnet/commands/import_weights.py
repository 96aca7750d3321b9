"""`ccnet import-weights`: convert a published PyTorch or Jittor file to ccnet weights, and report unmatched names."""

import re
from collections.abc import Sequence
from pathlib import Path

from ccnet import InputError, files, runtime, weights
from ccnet.data import catalog
from ccnet.data import classes as class_files
from ccnet.data.download import download, file_name, is_address
from ccnet.data.labels import voc_colours
from ccnet.models import BACKBONES, build, build_from_settings
from ccnet.protocol import Protocol
from ccnet.settings import Architecture, Model
from ccnet.weights import Weights, library, origins, published
from ccnet.weights.library import Entry
from ccnet.weights.matching import some
from ccnet.weights.origins import Origin
from ccnet.weights.published import StateDict

Colours = Sequence[Sequence[int]]


def run(
    *,
    source: str,
    out: Path,
    backbone: str | None = None,
    sha256: str | None = None,
    classes: Path | None = None,
    skip: list[str] | None = None,
) -> None:
    """Import `source`, a file, a URL or a name of `ccnet weights`: the weights of a backbone or of a whole CCNet.

    A file and a URL need their `backbone`. Parameters whose names begin with one of `skip` keep their initial values.
    Raises InputError for an unknown name, a file whose weights are not recognised or do not fit, whose SHA-256 is not
    `sha256`, or that leaves other parameters unfilled.
    """
    entry = None if is_address(source) or Path(source).expanduser().exists() else library.lookup(source)
    backbone = _backbone(source, backbone, entry)
    path = library.fetch(entry, out.parent / "downloads") if entry else _located(source, sha256, out)
    digest = _verified(path, sha256)
    found = published.read(path)
    origin = origins.recognise(found.tensors, str(path))
    print(f"{path}: {origin.description}, {len(found.tensors)} tensors")
    if not backbone.startswith(origin.family):
        raise InputError(f"{path}: {origin.description} does not fit --for {backbone}; name a {origin.family}")
    runtime.seed(0)
    own = origins.settings_of(origin, found.tensors) | (entry.settings if entry else {})
    if origin.part == "backbone":
        tensors = _filled(path, origin, found, build(backbone, 1, **own), "backbone.", skip or [])
        weights.save_backbone(out, tensors, backbone, digest, **own)
    else:
        settings = Architecture(model=Model(backbone=backbone, pretrained=digest, **own))  # type: ignore[call-arg]
        names, palette = _classes(found, origin, classes, entry, path)
        model = build_from_settings(settings, len(names))
        if origin.normalisation:
            model.mean, model.std = origin.normalisation
        weights.load_state(model, _filled(path, origin, found, model, "", skip or []), str(path))
        dataset = entry.dataset if entry else ""
        colours = [list(colour) for colour in palette]
        protocol = entry.protocol if entry else Protocol()
        weights.save(out, Weights(model, settings, list(names), colours, dataset, protocol=protocol))
    print(f"{out}: {origin.part} of {backbone}, from SHA-256 {digest}")


def _backbone(source: str, named: str | None, entry: Entry | None) -> str:
    """The backbone that --for names, or that an entry has. Raises InputError if it is missing, unknown or another."""
    backbone = named or (entry and entry.backbone)
    if backbone is None:
        raise InputError(f"{source}: a file or an address needs --for, the backbone: one of {', '.join(BACKBONES)}")
    if backbone not in BACKBONES:
        raise InputError(f"--for {backbone}: not one of {', '.join(BACKBONES)}")
    if entry and backbone != entry.backbone:
        raise InputError(f"--for {backbone}: {entry.name} is a {entry.backbone}; leave --for out")
    return backbone


def _located(source: str, sha256: str | None, out: Path) -> Path:
    """The file itself, or where it is downloaded to: a folder beside the output."""
    if source.endswith(".safetensors"):
        raise InputError(f"{source}: only .pth and .pkl are imported; weights of ccnet are ready for use as they are")
    if not is_address(source):
        return Path(source).expanduser()
    if sha256 is None:
        raise InputError(f"{source}: an address needs --sha256, so that what comes is what was published")
    return download([source], out.parent / "downloads" / f"{sha256[:12]}-{file_name(source)}", digest=sha256)


def _verified(path: Path, sha256: str | None) -> str:
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InputError(f"--sha256 {sha256}: write 64 hexadecimal digits, in lower case")
    digest = files.sha256(path)
    if sha256 not in (None, digest):
        raise InputError(f"{path}: its SHA-256 is {digest}, not {sha256}; get the file again, or correct the digits")
    return digest


def _filled(path: Path, origin: Origin, found: StateDict, model, prefix: str, skip: list[str]) -> dict:
    """All tensors of `model` below `prefix`: from the file if it has them, else initial. Prints the key report."""
    first = {name: value for name, value in weights.state_arrays(model).items() if name.startswith(prefix)}
    wanted = {name: value.shape for name, value in first.items()}
    match = origins.match(origin, found.tensors, wanted)
    print("\n".join(match.report()))
    idle = [start for start in skip if not any(name.startswith(start) for name in wanted)]
    if idle:
        raise InputError(f"--skip {' '.join(idle)}: no parameter's name begins so; they begin with {_heads(wanted)}")
    left = [name for name in [*match.missing, *match.mismatched] if not name.startswith(tuple(skip))]
    if left:
        raise InputError(
            f"{path}: leaves {len(left)} parameters unfilled ({some(left)}): choose another --for, or"
            f" name them by --skip {_heads(left)}"
        )
    try:
        return first | origins.convert(origin, match.filled, wanted)
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); get the file again") from error


def _heads(names) -> str:
    return " ".join(dict.fromkeys(name.split(".")[0] for name in names))


def _classes(
    found: StateDict, origin: Origin, listed: Path | None, entry: Entry | None, path: Path
) -> tuple[Sequence[str], Colours]:
    """Class names and colours: from the file `listed`, the entry's dataset, mmsegmentation's metadata, or numbers.

    The colours are the dataset's; VOC's where it is not known.
    """
    shapes = {origin.rename(name): tensor.shape for name, tensor in found.tensors.items()}
    (count, *_) = shapes.get("classifier.conv.weight") or (0,)
    noted = found.meta.get("CLASSES")
    names: Sequence[str] = [f"class_{number}" for number in range(count)]
    palette: Colours = voc_colours(count)
    if listed is not None:
        names, palette = class_files.read(listed)[:2]
    elif entry is not None:
        names, palette = (dataset := catalog.lookup(entry.dataset)).class_names, dataset.palette
    elif isinstance(noted, tuple | list) and all(isinstance(name, str) for name in noted):
        names = noted
    if not 0 < len(names) == count <= 255:
        raise InputError(f"{listed or path}: {len(names)} class names for a network of {count} classes; see --classes")
    return names, palette
