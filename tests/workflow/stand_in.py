"""What stands in for `ccnet.cli` when the DAG is under test: it makes the files a command would make.

calls.log in the working directory says when each command starts and ends. Files beside it change what happens: while
`hold` is there, a training waits to be interrupted; while `meet` is, a shard waits until another is being prepared
too; the command that `fail` names fails; `with_test` gives the dataset a test split.
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path


def note(text: str) -> None:
    with open("calls.log", "a") as log:
        log.write(text + "\n")


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not met():
        if time.monotonic() > deadline:
            sys.exit("waited in vain")
        time.sleep(0.05)


def interrupted(*_: object) -> None:
    time.sleep(1)
    Path("saved").touch()
    print("saved", flush=True)
    sys.exit(130)


def outputs(command: str, options: dict[str, str]) -> Iterator[Path]:
    inside = {"fetch": "index.json", "segment": "index.csv"}.get(command, "")
    yield Path(options["--out"], inside)
    if command == "segment":
        yield Path(options["--out"], "index.html")
    if command == "efficiency":
        yield Path(options["--out"]).with_suffix(".svg")
    if command == "report":
        yield from map(Path(options["--out"]).with_name, ("results.csv", "results.tex", "loss.svg", "mean_iou.svg"))
    if "--history" in options:
        yield Path(options["--history"])
    if "--examples" in options:
        yield Path(options["--examples"], "one.png")


def contents(command: str, rest: list[str]) -> str:
    """What a command writes: Snakemake compares contents, so other settings give other weights."""
    if command == "train":
        return Path(rest[1]).read_text()
    if command == "fetch":
        splits = ["train", "val", *["test"] * Path("with_test").exists()]
        return json.dumps({"pairs": {split: [] for split in splits}})
    if command == "settings":  # the real one writes the SHA-256 of the weights
        return rest[0] + (Path(rest[2]).read_text() if rest[1] == "--pretrained" else "")
    if command == "evaluate":  # half, and a hundredth for each seed
        return json.dumps({"mean_iou": 0.5 + json.loads(Path(rest[1]).read_text())["seed"] / 100})
    return command


def main() -> None:
    command, *rest = sys.argv[1:]
    call = " ".join([command, *rest])
    note(f"start {call}")
    if Path("fail").exists() and Path("fail").read_text() == command:
        sys.exit(f"ccnet {command}: error: no luck")
    if command == "train":
        signal.signal(signal.SIGINT, interrupted)
        time.sleep(0.3)
        wait_until(lambda: not Path("hold").exists())
    if command == "prepare" and Path("meet").exists():
        wait_until(lambda: Path("calls.log").read_text().count("start prepare") > 1)
    for path in outputs(command, dict(pairwise(rest))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents(command, rest))
    note(f"end {call}")
