"""Downloading large files, with resumption, retries, mirrors and checksums."""

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

BLOCK = 2**14  # bytes; a partial block is lost when the connection breaks
ATTEMPTS = 6  # consecutive attempts without receiving a byte
FIRST_PAUSE = 1.0  # seconds; doubled after each attempt
TIMEOUT = (10, 60)  # seconds to connect, and seconds without receiving a byte


class _InterruptedError(Exception):
    """A failed transfer that may succeed if retried."""


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
    """Download `target` from the first of `urls` that serves it completely, and return its path.

    An existing file with the right `digest` is kept. Partial content is stored in `target` + ".part" and resumed by
    this call or a later one. Verifies `digest` if given: a SHA-1 (40 digits), or a SHA-256 or the first digits of one.
    Checks beforehand that the disk has room for `copies` times the file; `size` (bytes) is used if the server does not
    state its length. Raises InputError if no mirror serves the file or the disk is too small.
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
    """Complete `part`, in as many transfers as needed. Raises after `ATTEMPTS` consecutive ones without progress."""
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
    """Request the missing bytes of `part` once. Returns if it is complete, else raises."""
    start = _length(part)
    headers = {"Accept-Encoding": "identity"}  # compression in transit would make ranges inconsistent
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
    """The offset at which the body begins: a server may ignore the range and send the whole file."""
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
    """Handle "range not satisfiable": `part` is complete, or it is not from this file and is deleted (raises)."""
    if response.headers.get("Content-Range") != f"bytes */{_length(part)}":
        part.unlink()
        raise _InterruptedError("what was downloaded before is longer than the file")


def _remember_validator(response: requests.Response, part: Path) -> None:
    """Store the ETag or Last-Modified date of the file, so that a changed file is not appended to an old part."""
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
        return hashlib.file_digest(file, "sha1" if len(digest) == 40 else "sha256").hexdigest().startswith(digest)
