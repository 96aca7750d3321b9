"""`ccnet weights`: list the published weights that `ccnet import-weights` knows by name."""

from ccnet.weights.library import ENTRIES, Entry


def run() -> None:
    """Print a table of the published files."""
    print("\n".join(table(list(ENTRIES.values()))))


def table(entries: list[Entry]) -> list[str]:
    """A line per file: name, backbone, dataset, mIoU of a whole CCNet, digest prefix, licence and address."""
    head = ["name", "backbone", "trained on", "mIoU", "multi-scale", "SHA-256", "licence", "address"]
    rows = [head, *map(_row, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _row(entry: Entry) -> list[str]:
    scores = [format(value, ".2f") for value in entry.miou] if entry.miou else ["", ""]
    digest = f"{entry.digest}…" if entry.digest else ""
    return [entry.name, entry.backbone, entry.dataset, *scores, digest, entry.licence, entry.url]
