import csv
import os

from ccnet.segmentation.index import Row, write


def test_rows_have_a_column_for_each_class_and_what_is_unknown_is_empty(tmp_path):
    odd = os.fsdecode(b"caf\xe9,\n.png")
    done = Row("a.png", width=4, height=3, seconds=0.12345, confidence=0.98765, mask="a.png", shares=[0.25, 0.75])
    write(tmp_path / "index.csv", [done, Row(odd, "failed", "empty")], ["sky", "seconds"])
    with open(tmp_path / "index.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        first, second = csv.DictReader(file)
    assert list(first) == ["file", "status", "reason", "width", "height", "seconds", "confidence", "protocol", "mask",
                           "share_sky", "share_seconds"]  # fmt: skip
    assert (first["seconds"], first["confidence"], first["share_sky"], first["status"]) == (
        "0.123", "0.9877", "0.250000", "ok")  # fmt: skip
    assert {name: cell for name, cell in second.items() if cell} == {"file": odd, "status": "failed", "reason": "empty"}
