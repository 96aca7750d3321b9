"""Safe unpacking of untrusted archives: no paths outside the folder, no links, no bombs, all members or an error."""

import errno
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from ccnet import InputError
from ccnet.files import atomic
from ccnet.progress import progress

GROWTH = 20  # photographs and PNGs hardly compress: a larger expansion is a bomb
SMALL = 2**26  # bytes that any archive may expand to
MARKER = ".unpacked"  # names the archives unpacked in its folder; empty while unpacking
FAILURES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


class DamagedError(InputError):
    """The file `archive` is damaged or no archive: another copy may be intact."""

    def __init__(self, archive: Path, reason: str) -> None:
        super().__init__(f"{archive}: {reason}")
        self.archive = archive


class _Member(NamedTuple):
    name: str
    size: int
    is_folder: bool
    content: IO[bytes] | None  # None for members that are neither file nor folder: links, devices


def unpack(archives: Mapping[Path, str], folder: Path) -> Path:
    """Unpack .zip or .tar(.gz, .bz2, .xz) files into `folder` and return the folder.

    Each archive is mapped to the folder below `folder` that it is unpacked into; "" is `folder` itself.
    Does nothing if these archives are already unpacked there; an incomplete or different earlier unpacking is replaced.
    Raises DamagedError naming the archive if it is damaged or of another format; InputError if a member would leave
    the folder or is a link or device, if the contents exceed `GROWTH` times the archive (at least `SMALL`) or the free
    disk space, if they cannot be written, and if the folder holds anything that was not unpacked by ccnet.
    """
    state = "".join(_state(archive) + below for archive, below in archives.items())
    marker = folder / MARKER
    if marker.exists() and marker.read_text() == state:
        return folder
    if folder.exists() and any(folder.iterdir()):
        if not marker.exists():
            raise InputError(f"{folder}: not unpacked by ccnet: move it away, or choose another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()  # marks the folder as created by ccnet, should unpacking be interrupted
    for archive, below in archives.items():
        _unpack_one(archive, folder / below)
    with atomic(marker) as temporary:
        temporary.write_text(state)
    return folder


def _state(archive: Path) -> str:
    """What tells an archive from another one, or from the same one before a change."""
    stat = archive.stat()
    return f"{archive.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}\n"


def _unpack_one(archive: Path, folder: Path) -> None:
    try:
        _unpack_members(archive, folder)
    except FAILURES as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{folder}: no room to unpack {archive} ({error.strerror}): make some") from error
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # these come from a damaged archive
            raise InputError(f"{folder}: cannot unpack {archive} ({error.strerror})") from error
        raise DamagedError(archive, f"damaged, or cannot be unpacked ({error}): replace it") from error


def _unpack_members(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limit = min(max(GROWTH * archive.stat().st_size, SMALL), shutil.disk_usage(folder).free)
    unpacked = 0
    with progress(desc=f"unpacking {archive.name}", unit="B", unit_scale=True) as bar:
        for member in _members(archive):
            unpacked += member.size
            if unpacked > limit:
                raise InputError(
                    f"{archive}: unpacks to over {limit} bytes: more than the disk holds, or absurdly much: refused"
                )
            _place(member, archive, folder)
            bar.update(member.size)


def _place(member: _Member, archive: Path, folder: Path) -> None:
    parts = PurePosixPath(member.name.replace("\\", "/")).parts
    if not parts and member.is_folder:  # the root, which `tar -C folder .` includes
        return
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise InputError(f"{archive}: its member {member.name!r} would leave the folder: refused")
    target = folder.joinpath(*parts)
    if member.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    if member.content is None:
        raise InputError(f"{archive}: its member {member.name!r} is a link or a device: refused")
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.content as content, open(target, "wb") as file:
        shutil.copyfileobj(content, file, 2**20)


def _members(archive: Path) -> Iterator[_Member]:
    if tarfile.is_tarfile(archive):
        return _tar_members(archive)
    if zipfile.is_zipfile(archive):
        return _zip_members(archive)
    raise DamagedError(archive, "neither a whole zip nor a tar file (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz)")


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as tar:
        for info in tar:
            content = tar.extractfile(info) if info.isfile() else None
            yield _Member(info.name, info.size, info.isdir(), content)


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            kind = info.external_attr >> 28  # the Unix file type: 0 unknown, 4 folder, 8 regular file
            content = zipped.open(info) if kind in (0, 8) and not info.is_dir() else None
            yield _Member(info.filename, info.file_size, info.is_dir(), content)
