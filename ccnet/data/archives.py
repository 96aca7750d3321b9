"""Unpacking archives from elsewhere: nothing outside the folder, no links, no bombs, and whole or not at all."""

import errno
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from ccnet import InputError
from ccnet.files import atomic
from ccnet.progress import progress

GROWTH = 20  # photographs and PNGs hardly compress: more than this is a bomb
SMALL = 2**26  # bytes that any archive may unpack to
MARKER = ".unpacked"  # in a folder of ours: the archive that was unpacked there, or nothing while it is
FAILURES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


class DamagedError(InputError):
    """An archive that is damaged, or none at all: another copy may be sound."""


class _Member(NamedTuple):
    name: str
    size: int
    is_folder: bool
    content: IO[bytes] | None  # None for what is neither file nor folder: links, devices


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a .zip or .tar(.gz, .bz2, .xz) file into `folder` and return it; what was done before is kept.

    Raises DamagedError naming the archive when it is damaged or of another kind, InputError when a member would leave
    the folder or is a link or device, when the contents are absurdly large or larger than the disk, when they cannot
    be written, and when something else is in the folder.
    """
    stat = archive.stat()
    state = f"{archive.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}\n"
    marker = folder / MARKER
    if marker.exists() and marker.read_text() == state:
        return folder
    if folder.exists() and any(folder.iterdir()):
        if not marker.exists():
            raise InputError(f"{folder}: not unpacked by ccnet: move it away, or choose another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()  # so that the folder is known for ours if this ends here
    try:
        _unpack_members(archive, folder, stat.st_size)
    except FAILURES as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{folder}: no room to unpack {archive} ({error.strerror}): make some") from error
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # those are of a damaged archive
            raise InputError(f"{folder}: cannot unpack {archive} ({error.strerror})") from error
        raise DamagedError(f"{archive}: damaged, or cannot be unpacked ({error}): replace it") from error
    with atomic(marker) as temporary:
        temporary.write_text(state)
    return folder


def _unpack_members(archive: Path, folder: Path, packed: int) -> None:
    limit = min(max(GROWTH * packed, SMALL), shutil.disk_usage(folder).free)
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
    if not parts and member.is_folder:  # the folder itself, as `tar -C folder .` names it
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
    raise DamagedError(f"{archive}: neither a whole zip nor a tar file (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz)")


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
