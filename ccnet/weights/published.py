"""Reading published weights: PyTorch's `.pth` (a zip since 1.6, before that a stream) and Jittor's `.pkl`.

No code in a file is run and nothing is decompressed, so a file cannot allocate more memory than its own length.
"""

import hashlib
import io
import mmap
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from ccnet import InputError
from ccnet.weights.pickles import FAULTS, checked, load, said
from ccnet.weights.tensors import CALLS, Storage, Tensor, torch_storage

LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # torch/serialization.py
JITTOR_END = b"HCAJSLHD"  # follows the pickle and its SHA-1: jittor/__init__.py
LONGEST_NAME = 1000  # of a tensor, in characters
WRAPPERS = ("state_dict", "model", "model_state_dict", "network", "net")


class StateDict(NamedTuple):
    """`tensors` by name; `meta` is mmsegmentation's metadata (CLASSES, PALETTE), empty in other files."""

    tensors: dict[str, Tensor]
    meta: dict


def read(path: Path) -> StateDict:
    """The state dict of a published file. Raises InputError for a file that is damaged or of another format."""
    try:
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    found = (_read_zip if content[:2] == b"PK" else _read_stream)(content, str(path))
    meta = found.get("meta") if isinstance(found, dict) else None
    return StateDict(_tensors(found, str(path)), meta if isinstance(meta, dict) else {})


def _tensors(found: Any, where: str) -> dict[str, Tensor]:
    """The tensors of a state dict, without wrapping dicts (`WRAPPERS`) and DataParallel's prefix "module."."""
    while isinstance(found, dict) and (inner := [key for key in WRAPPERS if isinstance(found.get(key), dict)]):
        found = found.pop(inner[0])  # pop, so that a dict that contains itself terminates
    entries = found.items() if isinstance(found, dict) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    if not all(name.isprintable() and len(name) <= LONGEST_NAME for name in tensors):
        raise InputError(f"{where}: damaged: a tensor's name has over {LONGEST_NAME} characters, or cannot be printed")
    if not tensors:
        raise InputError(f"{where}: no state dict in it, neither at its top nor under {', '.join(WRAPPERS)}")
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def _read_zip(content: mmap.mmap, where: str) -> Any:
    try:
        archive = zipfile.ZipFile(content)  # type: ignore[call-overload]
        members = {member.filename: _member(content, member) for member in archive.infolist()}
        (pickled,) = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    except (zipfile.BadZipFile, *FAULTS) as error:
        raise InputError(f"{where}: a damaged file, or a zip that PyTorch did not write ({said(error)})") from error
    folder = pickled.removesuffix("data.pkl")
    if bytes(members.get(f"{folder}byteorder", b"little")) != b"little":
        raise InputError(f"{where}: its numbers are big-endian; load it and save it again on this machine")

    def storage(identity: Any) -> Storage:
        made, key = torch_storage(identity)
        made.data = members[f"{folder}data/{key}"]
        if len(made.data) != made.elements * made.itemsize:
            raise ValueError(f"storage {key} has another length than it should")
        return made

    return load(io.BytesIO(members[pickled]), where, CALLS, storage)


def _member(content: mmap.mmap, member: zipfile.ZipInfo) -> memoryview:
    """A view of a zip member's bytes. Raises ValueError for a compressed member: PyTorch stores them uncompressed."""
    header = content[member.header_offset : member.header_offset + 30]
    name, extra = struct.unpack("<HH", header[26:])
    start = member.header_offset + 30 + name + extra
    if header[:4] != b"PK\x03\x04":
        raise ValueError(f"{member.filename} is not where it should be")
    if member.compress_type != zipfile.ZIP_STORED or start + member.file_size > len(content):
        raise ValueError(f"{member.filename} is compressed or incomplete")
    return memoryview(content)[start : start + member.file_size]


def _read_stream(content: mmap.mmap, where: str) -> Any:
    """Read several consecutive pickles followed by the storages (PyTorch), or a single pickle (Jittor)."""
    storages: dict[str, Storage] = {}

    def storage(identity: Any) -> Storage:
        made, key = torch_storage(identity)
        return storages.setdefault(key, made)

    first = load(content, where, CALLS)
    if first != LEGACY_MAGIC:
        _check_sum(content, where)
        return first
    protocol, system, found, keys = (load(content, where, CALLS, storage) for _ in range(4))
    try:
        if protocol != LEGACY_PROTOCOL or not system["little_endian"]:
            raise ValueError("an unknown variant of PyTorch's older format")
        for key in checked(keys, list):
            _fill(storages[checked(key, str)], content)
    except FAULTS as error:
        raise InputError(f"{where}: damaged or incomplete ({said(error)})") from error
    return found


def _fill(storage: Storage, content: mmap.mmap) -> None:
    """Set a storage's bytes, which follow their element count (int64) at the stream's position."""
    (elements,) = struct.unpack("<q", content.read(8))
    start, length = content.tell(), elements * storage.itemsize
    if elements < 0 or start + length > len(content):
        raise ValueError(f"it ends before the {elements} numbers that it announces")
    storage.elements, storage.data = elements, memoryview(content)[start : start + length]
    content.seek(start + length)


def _check_sum(content: mmap.mmap, where: str) -> None:
    """Verify the SHA-1 at the end of a Jittor file; older files have none. Raises InputError on a mismatch."""
    if content[-8:] == JITTOR_END and hashlib.sha1(content[:-28]).digest() != content[-28:-8]:
        raise InputError(f"{where}: damaged: its checksum is not the one it ends with; download it again")
