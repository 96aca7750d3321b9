"""Files that are either whole or absent."""

import hashlib
import os
import platform
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# A temporary file is named .STEM.HOST-PROCESS-RANDOM.SUFFIX: whose it is, and that it is of this package.
TEMPORARY = re.compile(r"\..*\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}(\..*)?", re.DOTALL)
ABANDONED = 7 * 86400  # seconds after which nobody writes any more, on whatever host


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` in one step, on failure it is removed.

    The suffix is kept, so that libraries that choose a format by suffix choose the right one. What killed processes
    left in the folder is removed first.
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
    finally:
        temporary.unlink(missing_ok=True)


@cache  # once in a process: a folder may hold thousands of results
def _sweep(folder: Path) -> None:
    """Remove the temporary files in a folder whose process, of this host, has ended, or that are long abandoned."""
    for entry in os.scandir(folder) if os.access(folder, os.R_OK) else ():
        if (named := TEMPORARY.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
            with suppress(OSError):  # another process is sweeping too, or may and this one may not
                here = named["host"] == _host()
                ended = here and not Path("/proc", named["process"]).exists()
                if ended or time.time() - entry.stat().st_mtime > ABANDONED:
                    os.unlink(entry.path)


@cache
def _host() -> str:
    """Where a process's number means something: this machine, or a container in it."""
    return hashlib.sha256(f"{platform.node()} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
