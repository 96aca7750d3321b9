"""Downloading a large file: resumed, retried, from mirrors, and checked."""

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests

from ccnet import InputError
from ccnet.progress import progress

BLOCK = 2**14  # bytes; what a broken connection has brought of a block is lost
ATTEMPTS = 6  # in a row, the later ones without a byte gained
FIRST_PAUSE = 1.0  # seconds; doubled after each
TIMEOUT = (10, 60)  # seconds to connect, and without a byte


class _InterruptedError(Exception):
    """A transfer that may well succeed if tried again."""


PASSING = (
    _InterruptedError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def is_address(source: str) -> bool:
    """Whether `source` is something to download, not a path."""
    return urlsplit(source).scheme in ("http", "https")


def file_name(url: str) -> str:
    """The last part of an address's path; "download" where it has none."""
    return Path(unquote(urlsplit(url).path)).name or "download"


def download(
    urls: Sequence[str], target: Path, *, size: int | None = None, digest: str | None = None, copies: int = 1
) -> Path:
    """Fetch `target` from the first of `urls` that serves it whole, and return it; a sound file already there is kept.

    What has arrived waits in `target` + ".part" and is continued, by this call or a later one. Checks `digest` (SHA-1
    or SHA-256, by its length) if given, and beforehand that the disk holds `copies` times the file (of `size` bytes
    where the server does not say). Raises InputError when no mirror serves the file, or the disk is too small.
    """
    if target.exists() and _is_sound(target, digest):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failures = []
    for url in urls:
        try:
            _fetch(url, part, size, copies)
        except (_InterruptedError, requests.RequestException) as error:
            failures.append(f"{url}: {error}")
            continue
        _validator(part).unlink(missing_ok=True)
        if _is_sound(part, digest):
            os.replace(part, target)
            return target
        failures.append(f"{url}: the checksum of what it serves is not {digest}")
        part.unlink()
    raise InputError(f"cannot download {target.name}: {'; '.join(failures)}: try again, or name a file of yours")


def _fetch(url: str, part: Path, size: int | None, copies: int) -> None:
    """Bring `part` to its full length, in as many transfers as it takes."""
    idle = 0
    while True:
        before = _length(part)
        try:
            return _transfer(url, part, size, copies)
        except PASSING as error:
            idle = 1 if _length(part) > before else idle + 1
            if idle > ATTEMPTS:
                raise
            pause = FIRST_PAUSE * 2 ** (idle - 1)
            print(f"{url}: {error}: trying again in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)


def _transfer(url: str, part: Path, size: int | None, copies: int) -> None:
    """One request for what is missing of `part`. Returns once it is whole, else raises."""
    start = _length(part)
    headers = {"Accept-Encoding": "identity"}  # compressed on the way, ranges would not add up
    if start:
        headers["Range"] = f"bytes={start}-"
        if _validator(part).exists():
            headers["If-Range"] = _validator(part).read_text()
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return _settle_overrun(response, part)
        if response.status_code >= 500 or response.status_code == requests.codes.too_many_requests:
            raise _InterruptedError(f"the server answered {response.status_code}")
        response.raise_for_status()
        start = _resumed_at(response, start)
        total = _total(response, start)
        _ask_for_space(part, ((total or size or 0) * copies) - start)
        _remember_validator(response, part)
        _receive(response, part, start, total)


def _resumed_at(response: requests.Response, start: int) -> int:
    """Where the body really begins: a server may ignore the range and send everything."""
    if response.status_code != requests.codes.partial_content:
        return 0
    stated = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not stated or int(stated[1]) != start:
        raise _InterruptedError(f"asked for bytes from {start}, got {response.headers.get('Content-Range')}")
    return start


def _total(response: requests.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length")
    return start + int(length) if length is not None else None


def _receive(response: requests.Response, part: Path, start: int, total: int | None) -> None:
    bar = progress(total=total, initial=start, desc=part.stem, unit="B", unit_scale=True)
    with open(part, "r+b" if start else "wb") as file, bar:
        file.seek(start)
        for block in response.iter_content(BLOCK):
            file.write(block)
            bar.update(len(block))
    if total is not None and _length(part) != total:
        raise _InterruptedError(f"the connection ended after {_length(part)} of {total} bytes")


def _settle_overrun(response: requests.Response, part: Path) -> None:
    """The server has nothing beyond what is here: either all of it is here, or something else is."""
    if response.headers.get("Content-Range") != f"bytes */{_length(part)}":
        part.unlink()
        raise _InterruptedError("what was downloaded before is longer than the file")


def _remember_validator(response: requests.Response, part: Path) -> None:
    """Note which version of the file this is, so that a changed one is not glued to the old beginning."""
    etag = response.headers.get("ETag", "")
    validator = response.headers.get("Last-Modified") if etag.startswith("W/") or not etag else etag
    if validator:
        _validator(part).write_text(validator)
    else:
        _validator(part).unlink(missing_ok=True)


def _validator(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _ask_for_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise InputError(
            f"{part.parent}: {needed / 1e9:.1f} GB are needed for {part.stem}, {free / 1e9:.1f} GB are free: make room"
        )


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_sound(path: Path, digest: str | None) -> bool:
    if digest is None:
        return True
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha1" if len(digest) == 40 else "sha256").hexdigest() == digest
