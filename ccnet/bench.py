"""The verb `bench`: this project beside PyTorch doing the same mathematics with the same weights."""

import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ccnet import InputError
from ccnet.data import labels, streets
from ccnet.data.shards import Record, write_shard
from ccnet.files import atomic
from ccnet.progress import progress

OURS = "ccnet"
LAYOUTS = ("PyTorch", "PyTorch channels_last")
PHOTOS, SIZE = 24, (480, 360)  # what the loader and `ccnet segment` are timed on: as large as CamVid's


@dataclass(frozen=True)
class Case:
    """What is timed: a `kind` of `ccnet.contenders`, its options, who stands for PyTorch, and the ratios aimed at.

    `targets`: "time" and "memory" beside PyTorch's best, "floor" as a multiple of the floor; for two threads.
    """

    name: str
    kind: str
    options: Mapping[str, Any]
    targets: Mapping[str, float] = field(default_factory=dict)
    rivals: tuple[str, ...] = LAYOUTS
    images: int = 0  # a run has


PRODUCT = Case("matrix product 2048²", "matmul", {"size": 2048}, rivals=("PyTorch",))  # the machine's peak


def _attention(height: int, width: int, backward: bool, block: str = "rcca", **targets: float) -> Case:
    options = {"block": block, "channels": 512, "height": height, "width": width, "backward": backward}
    title = "criss-cross" if block == "rcca" else "non-local"
    return Case(f"{title} {height}×{width} {'both' if backward else 'forward'}", "attention", options, targets)


CASES = [
    *(_attention(*size, backward) for size in ((65, 65), (128, 128), (256, 128)) for backward in (False, True)),
    _attention(97, 97, False, time=0.45, memory=0.8, floor=1.6),
    _attention(97, 97, True, time=0.70, memory=0.8, floor=1.6),
    *(_attention(side, side, False, "non_local") for side in (65, 97)),
    *(
        Case(f"{network} inference 512²", "inference", {"network": network, "size": 512}, targets)
        for network, targets in {
            "van_tiny": {"time": 0.40, "memory": 0.8}, "van_base": {"time": 0.50, "memory": 0.8},
            "resnet50": {}, "resnet101": {"time": 0.90, "memory": 1.0},
        }.items()
    ),
    *(
        Case(f"{network} training 256²", "training", {"network": network, "size": 256, "batch": 2}, targets)
        for network, targets in {
            "van_tiny": {"time": 0.45, "memory": 0.8}, "van_base": {},
            "resnet50": {}, "resnet101": {"time": 1.0, "memory": 1.0},
        }.items()
    ),
    *(
        Case(f"loader, workers: {workers}", "loader", {"workers": workers}, {"time": 1.0},
             ("PyTorch", "PyTorch files"), images=192)
        for workers in (1, 2)
    ),
    Case("segment a folder", "segment", {}, rivals=LAYOUTS, images=PHOTOS),
]  # fmt: skip
HEADER = (
    f"{'case':<27}{'threads':>7}{'ccnet':>10}{'PyTorch':>10}{'ratio':>7}{'target':>8}{'MB':>7}{'MB':>7}"
    f"{'ratio':>7}{'target':>8}{'× floor':>9}{'target':>8}{'difference':>12}  PyTorch's best"
)


def run(*, out: Path, only: str = "", threads: tuple[int, ...] = (1, 2), repeats: int = 7) -> None:
    """Time every case whose name has `only` in it, print a table and write it to `out` (JSON).

    Raises InputError where PyTorch is not installed, no case is meant, or one side of a case does not work.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("bench compares with PyTorch, and it is not installed: pip install -e '.[bench]'")
    if repeats < 1 or min(threads) < 1:
        raise InputError(f"--repeats {repeats}, --threads {' '.join(map(str, threads))}: both must be 1 or more")
    chosen = [case for case in CASES if only in case.name]
    if not chosen:
        raise InputError(f"--only {only}: no case has this in its name; there are {', '.join(c.name for c in CASES)}")
    if not all(case.images for case in chosen):  # the others have a floor
        chosen.insert(0, PRODUCT)
    # its workers are processes, with whatever threads the network has
    jobs = [(case, n) for n in threads for case in chosen if case.kind != "loader" or n == threads[0]]
    rows: list[dict] = []
    print(HEADER)
    with tempfile.TemporaryDirectory() as name, progress(total=len(jobs), desc="bench", unit="case") as bar:
        draw_dataset(Path(name))
        for case, count in jobs:
            bar.set_postfix_str(f"{case.name}, threads: {count}")
            rows.append(summary(case, count, measure(case, count, repeats, Path(name)), peak(rows, count)))
            bar.write(line(rows[-1]), file=sys.stdout)
            bar.update()
            write(out, rows)
    print("\n".join(["", *notes(rows), str(out)]))


def draw_dataset(folder: Path) -> None:
    """Street scenes in photos/*.jpg and labels/*.png, and the same in train.h5."""
    records = []
    for part in ("photos", "labels"):
        (folder / part).mkdir()
    for number in range(PHOTOS):
        image, label = streets.draw(number, SIZE)
        buffer, ids, name = io.BytesIO(), np.asarray(label), f"{number:03d}"
        image.save(buffer, "JPEG", quality=90)
        encoded, counts = labels.encode(ids), labels.histogram(ids, len(streets.CLASS_NAMES))
        (folder / "photos" / f"{name}.jpg").write_bytes(buffer.getvalue())
        (folder / "labels" / f"{name}.png").write_bytes(encoded)
        records.append(Record(name, buffer.getvalue(), encoded, *SIZE, counts))
    write_shard(folder / "train.h5", records, class_names=streets.CLASS_NAMES, palette=streets.PALETTE, split="train")


class Contender:
    """One side of a case: the process of `ccnet.contenders` that does it."""

    def __init__(self, case: Case, side: str, threads: int, folder: Path):
        self.what, self.output = f"{case.name}: {side}", folder / f"{side}.npz"
        options = {**case.options, **({"folder": str(folder)} if case.kind in ("loader", "segment") else {})}
        spec = {"kind": case.kind, "options": options, "side": side, "threads": threads, "output": str(self.output)}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "MKL_"))}
        self.errors = open(folder / f"{side}.log", "w+")  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ccnet.contenders", json.dumps(spec)], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, env=inherited | {"OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip

    def answer(self) -> dict:
        """Its next answer. Raises InputError with its last words if it died."""
        assert self.process.stdout
        if text := self.process.stdout.readline():
            return json.loads(text)
        code = self.process.wait()
        words = (self.output.with_suffix(".log").read_text().strip() or "nothing").splitlines()[-1]
        remedy = "out of memory?" if code == -9 else "leave it out with --only, or repair it"
        raise InputError(f"{self.what} ended with code {code} ({words}): {remedy}")

    def run(self) -> float:
        """Seconds of one run."""
        assert self.process.stdin
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self.answer()["seconds"]

    def end(self) -> dict:
        """Its memory, bytes."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            stream.close()  # type: ignore[union-attr]


def measure(case: Case, threads: int, repeats: int, folder: Path) -> dict[str, dict]:
    """By side: "seconds" of each run, "memory" (bytes), "flops" of a run (ours), and "difference" from ours."""
    with ExitStack() as stack:
        sides, found = {}, {}
        for side in (OURS, *case.rivals):  # warm one after another: threads of PyTorch that spin starve each other
            sides[side] = stack.enter_context(Contender(case, side, threads, folder))
            found[side] = sides[side].answer()
        outputs = {side: list(np.load(contender.output).values()) for side, contender in sides.items()}
        times = take_turns({side: contender.run for side, contender in sides.items()}, repeats)
        return {
            side: {**found[side], "seconds": times[side], "memory": contender.end(),
                   "difference": difference(outputs[side], outputs[OURS])}
            for side, contender in sides.items()
        }  # fmt: skip


def take_turns(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of `repeats` runs of each side: one of each, then the next of each, so that a busy hour meets all."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, work in sides.items():
            time.sleep(0.05)  # the threads of the side before spin a little until they sleep
            times[side].append(work())
    return times


def difference(actual: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest, relative to the largest value; of integers, the share that differs. Shapes must agree."""
    shares = []
    for a, b in zip(actual, expected, strict=True):
        if a.shape != b.shape:
            raise InputError(f"bench: the two sides computed {a.shape} and {b.shape}")
        shares.append((a != b).mean() if a.dtype.kind in "iu" else np.abs(a - b).max() / np.abs(b).max())
    return float(max(shares))


def peak(rows: list[dict], threads: int) -> float | None:
    """FLOP/s of the fastest matrix product that either side did with so many threads."""
    for row in rows:
        if row["case"] == PRODUCT.name and row["threads"] == threads:
            return row["flops"] / min(min(side["seconds"]) for side in row["sides"].values())
    return None


def summary(case: Case, threads: int, sides: dict[str, dict], peak: float | None) -> dict:
    """A row of the table: medians, and ratios of ours to the best of the others, the one with the lowest median."""
    flops = sides[OURS].pop("flops")
    for side in sides.values():
        side["median"] = statistics.median(side["seconds"])
        side["added"] = side["memory"]["peak"] - side["memory"]["imported"]
    best = min(case.rivals, key=lambda side: sides[side]["median"])
    ours, theirs = sides[OURS], sides[best]
    memory = case.kind != "loader"  # most of it is its workers'
    return {
        "case": case.name, "threads": threads, "best": best, "flops": flops, "images": case.images,
        "time_ratio": ours["median"] / theirs["median"],
        "memory_ratio": ours["added"] / theirs["added"] if memory else None,
        "floor_ratio": ours["median"] / (flops / peak) if flops and peak else None,
        "targets": dict(case.targets) if threads == 2 or case.kind == "loader" else {},
        "difference": max(sides[side]["difference"] for side in case.rivals), "sides": sides,
    }  # fmt: skip


def line(row: dict) -> str:
    """A row as text: milliseconds, megabytes."""
    ours, theirs, targets = row["sides"][OURS], row["sides"][row["best"]], row["targets"]

    def ratio(key: str, width: int) -> str:
        value, target = row[f"{key}_ratio"], targets.get(key)
        return ("" if value is None else f"{value:.2f}").rjust(width) + (f"≤ {target:.2f}" if target else "").rjust(8)

    return (
        f"{row['case']:<27}{row['threads']:>7}{1e3 * ours['median']:>10.1f}{1e3 * theirs['median']:>10.1f}"
        f"{ratio('time', 7)}{ours['added'] / 1e6:>7.0f}{theirs['added'] / 1e6:>7.0f}{ratio('memory', 7)}"
        f"{ratio('floor', 9)}{row['difference']:>12.1e}  {row['best']}"
    )


def notes(rows: list[dict]) -> list[str]:
    """What takes more than one row: images a second, growth of the attention's time, memory beside non-local."""
    found = []
    for row in rows:
        name, ours, theirs = f"{row['case']}, threads: {row['threads']}", row["sides"][OURS], row["sides"][row["best"]]
        if row["images"]:
            speeds = [row["images"] / side["median"] for side in (ours, theirs)]
            found.append(f"{name}: {speeds[0]:.1f} images/s, PyTorch {speeds[1]:.1f}")
        if row["case"].startswith("criss-cross"):
            height, width = map(int, row["case"].split()[1].split("×"))
            each = 1e9 * ours["median"] / (height * width)
            found.append(f"{name}: {each:.0f} ns a pixel, {each / (height + width):.2f} ns by (H + W)")
        if row["case"].startswith("non-local"):
            twin = next((r for r in rows if r["threads"] == row["threads"]
                         and r["case"] == row["case"].replace("non-local", "criss-cross")), None)  # fmt: skip
            if twin:
                extra = [r["sides"][OURS]["memory"]["peak"] - r["sides"][OURS]["memory"]["built"] for r in (row, twin)]
                found.append(
                    f"{name}: {extra[0] / 1e6:.0f} MB beyond its input, {extra[0] / extra[1]:.1f} × criss-cross's"
                )
    return found


def write(out: Path, rows: list[dict]) -> None:
    """All rows so far, and what they were measured on."""
    versions = {name: importlib.metadata.version(name) for name in ("ccnet", "jittor", "torch")}
    machine = {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()}
    with atomic(out) as temporary:
        temporary.write_text(json.dumps({"machine": machine, "versions": versions, "cases": rows}, indent=1) + "\n")


def _processor() -> str:
    names = [text for text in Path("/proc/cpuinfo").read_text().splitlines() if text.startswith("model name")]
    return names[0].partition(": ")[2] if names else platform.machine()
