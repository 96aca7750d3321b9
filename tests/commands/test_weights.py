from ccnet import cli
from ccnet.commands.weights import table
from ccnet.weights.library import ENTRIES


def test_every_published_file_has_a_line(capsys):
    assert cli.main(["weights"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "backbone", "trained", "on", "mIoU", "multi-scale", "SHA-256", "licence", "address"]
    assert [row.split()[0] for row in rows] == list(ENTRIES)
    assert [row.split()[-1] for row in rows] == [entry.url for entry in ENTRIES.values()]


def test_a_line_says_what_is_known_of_a_file():
    rows = table([ENTRIES[name] for name in ("imagenet-van_tiny", "mmseg-ade20k-r101")])[1:]
    assert rows[0].split()[:-1] == ["imagenet-van_tiny", "van_tiny", "imagenet", "Apache-2.0"]
    assert rows[1].split()[:-1] == [
        "mmseg-ade20k-r101", "resnet101", "ade20k", "43.97", "45.13", "1f4929a3…", "Apache-2.0",
    ]  # fmt: skip
