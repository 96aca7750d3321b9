"""EXIF that Pillow reads, of an image to be turned by 90°, and cannot write back."""

import struct


def _exif(tag: int, kind: int, value: bytes) -> bytes:
    entries = sorted([struct.pack("<HHI4s", 0x0112, 3, 1, b"\6"), struct.pack("<HHI4s", tag, kind, 1, value)])
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + b"".join(entries) + bytes(4)


ODD_EXIF = {
    "struct.error": _exif(0x0100, 11, struct.pack("<f", 1.5)),  # a width that is a fraction
    "TypeError": _exif(0x011A, 7, b"x"),  # a resolution that is text
}
