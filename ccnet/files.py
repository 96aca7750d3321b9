"""Atomic file writing, removal of abandoned temporary files, and SHA-256 of files."""

import errno
import hashlib
import json
import os
import platform
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

# A temporary file is named .STEM.HOST-PROCESS-RANDOM.SUFFIX, which identifies its process and this package.
TEMPORARY = re.compile(r"\..*\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}(\..*)?", re.DOTALL)
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
ABANDONED = 7 * 86400  # seconds since the last write after which a file of any host is abandoned


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` atomically, on failure it is removed.

    It has the suffix of `path`, for libraries that choose a format by suffix. Creates the folder, and first removes
    temporary files that killed processes left in it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent.resolve())
    own = f"{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = target.with_name(f".{target.stem[:40]}.{own}{target.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.errno in FULL and error.filename is None:  # a write does not say where
            error.filename = str(target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Create the folder of `path`. Raises OSError if `path` cannot be written: before long work, not after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file to write", str(path))
    with TemporaryFile(dir=path.parent):
        pass


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write a value as indented UTF-8 JSON, atomically. Raises ValueError for NaN and infinities."""
    with atomic(path) as temporary:
        text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write text as UTF-8, atomically. Names of files need not be UTF-8: their other bytes are escaped."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


@cache  # once per process and folder: a folder may hold thousands of results
def _sweep(folder: Path) -> None:
    """Remove temporary files whose process was on this host and has ended, or that are older than `ABANDONED`."""
    for entry in os.scandir(folder) if os.access(folder, os.R_OK) else ():
        if (named := TEMPORARY.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
            with suppress(OSError):  # another process removed it, or this one lacks permission
                ended = named["host"] == _host() and _has_ended(named["process"])
                if ended or time.time() - entry.stat().st_mtime > ABANDONED:
                    os.unlink(entry.path)


def _has_ended(process: str) -> bool:
    """Whether a process of this host has ended. A zombie has: in a container, often no parent waits for it."""
    try:
        return Path("/proc", process, "stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
    except PermissionError:  # another user's, where /proc is mounted so
        return False


@cache
def _host() -> str:
    """A hash that identifies the PID namespace: this machine, or a container on it."""
    return hashlib.sha256(f"{platform.node()} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
