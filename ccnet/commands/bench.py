"""`ccnet bench`: time ccnet and PyTorch on the same computations with the same weights."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ccnet import InputError
from ccnet.contenders.cases import CASES, PHOTOS, SIZES, Case
from ccnet.data import streets
from ccnet.data.shards import write_shard
from ccnet.files import write_json
from ccnet.machine import cuda, examine
from ccnet.progress import progress

OURS = "ccnet"
HEADER = (
    f"{'case':<37}{'threads':>7}{'ccnet':>10}{'PyTorch':>10}{'ratio':>7}{'target':>8}{'MB':>7}{'MB':>7}"
    f"{'ratio':>7}{'target':>8}{'× floor':>9}{'target':>8}{'difference':>12}  PyTorch's best (the others, ms)"
)


def run(
    *, out: Path, device: str = "auto", only: str = "", threads: tuple[int, ...] | None = None, repeats: int = 7
) -> None:
    """Time every case of the device whose name contains `only`, print a table and write it to `out` (JSON).

    Cases that serve as the floor of a selected one also run. Raises InputError if PyTorch is not installed, the device
    does not work, no case is selected, or ccnet's side or all rivals of a case fail.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("bench compares with PyTorch, and it is not installed: pip install -e '.[bench]'")
    if repeats < 1 or min(threads or [1]) < 1:
        raise InputError(f"--repeats {repeats}, --threads {' '.join(map(str, threads or []))}: both must be 1 or more")
    device = choose(device)
    threads = threads or ((1, 2) if device == "cpu" else (2,))
    flags = examine.processor_flags()
    cases = [case for case in CASES[device] if not case.needs or case.needs in flags]
    floors = {case.floor for case in cases if only in case.name}
    if not floors:
        raise InputError(f"--only {only}: no case has this in its name; there are {', '.join(c.name for c in cases)}")
    chosen = [case for case in cases if only in case.name or case.name in floors]
    # the loader's workers are processes: independent of the network's threads
    jobs = [(case, n) for n in threads for case in chosen if case.kind != "loader" or n == threads[0]]
    rows: list[dict] = []
    print(HEADER)
    with tempfile.TemporaryDirectory() as name, progress(total=len(jobs), desc="bench", unit="case") as bar:
        draw_dataset(Path(name))
        for case, count in jobs:
            bar.set_postfix_str(f"{case.name}, threads: {count}")
            sides, left_out = measure(case, device, count, repeats, Path(name))
            rows.append(summary(case, count, sides, peak(rows, count, case.floor)) | {"left_out": left_out})
            bar.write(line(rows[-1]), file=sys.stdout)
            bar.update()
            write(out, device, rows)
    print("\n".join(["", *notes(rows), str(out)]))


def choose(device: str) -> str:
    """Resolve "auto", "cpu" or "cuda" to a device; raises InputError for "cuda" if Jittor does not work on it."""
    if device == "cpu" or (device == "auto" and cuda.find_driver() is None):
        return "cpu"
    failure = examine.convolve("cuda").failure
    if failure and device == "cuda":
        raise InputError(f"--device cuda: {failure}; see ccnet doctor")
    print(f"ccnet: timing on {'cpu' if failure else 'cuda'}" + f" ({failure})" * bool(failure), file=sys.stderr)
    return "cpu" if failure else "cuda"


def draw_dataset(folder: Path) -> None:
    """Write `PHOTOS` street scenes to photos/*.jpg and labels/*.png, and the same scenes to train.h5."""
    records = []
    for part in ("photos", "labels"):
        (folder / part).mkdir()
    for number in range(PHOTOS):
        record = streets.record(number, SIZES[number % len(SIZES)], "JPEG", quality=90)
        (folder / "photos" / f"{record.name}.jpg").write_bytes(record.image)
        (folder / "labels" / f"{record.name}.png").write_bytes(record.label)
        records.append(record)
    write_shard(folder / "train.h5", records, class_names=streets.CLASS_NAMES, palette=streets.PALETTE, split="train")


class Contender:
    """One side of a case: a process of `ccnet.contenders`."""

    def __init__(self, case: Case, side: str, device: str, threads: int, folder: Path):
        self.what, self.output = f"{case.name}: {side}", folder / f"{side}.npz"
        options = {**case.options, **({"folder": str(folder)} if case.kind in ("loader", "label", "segment") else {})}
        spec = {"kind": case.kind, "options": options, "side": side, "device": device, "threads": threads,
                "output": str(self.output)}  # fmt: skip
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "MKL_"))}
        self.errors = open(folder / f"{side}.log", "w+")  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ccnet.contenders", json.dumps(spec)], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, env=inherited | {"OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip

    def answer(self) -> dict:
        """The next answer of the process. Raises InputError with its error message if it died."""
        assert self.process.stdout
        if text := self.process.stdout.readline():
            return json.loads(text)
        code = self.process.wait()
        words = last_words(self.output.with_suffix(".log").read_text())
        remedy = "out of memory?" if code == -9 else "leave it out with --only, or repair it"
        raise InputError(f"{self.what} ended with code {code} ({words}): {remedy}")

    def run(self) -> float:
        """Do one run; return its seconds."""
        assert self.process.stdin
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self.answer()["seconds"]

    def end(self) -> dict:
        """End the process; return its memory figures, bytes."""
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


def last_words(log: str) -> str:
    """The last line that names an error (advice may follow it), else the last line."""
    lines = log.strip().splitlines() or ["nothing"]
    return next(
        (text for text in reversed(lines) if re.match(r"[\w.]+(Error|Exception|Unsupported): ", text)), lines[-1]
    )


def measure(
    case: Case, device: str, threads: int, repeats: int, folder: Path
) -> tuple[dict[str, dict], dict[str, str]]:
    """Measure all sides of a case; return (results by side, reasons by rival left out).

    A result has the "seconds" of each run, "memory" (bytes), "flops" of a run (ccnet's only) and "difference" from
    ccnet's output. A rival is left out if it fails before its first run.
    """
    with ExitStack() as stack:
        sides, found, left_out = {}, {}, {}
        for side in (OURS, *case.rivals):  # warm up sequentially: spinning threads of PyTorch slow each other down
            contender = stack.enter_context(Contender(case, side, device, threads, folder))
            try:
                found[side] = contender.answer()
            except InputError as error:
                left_out[side] = str(error)
                if side == OURS or len(left_out) == len(case.rivals):
                    raise
            else:
                sides[side] = contender
        outputs = {side: list(np.load(contender.output).values()) for side, contender in sides.items()}
        times = take_turns({side: contender.run for side, contender in sides.items()}, repeats)
        return {
            side: {
                **found[side],
                "seconds": times[side],
                "memory": contender.end(),
                "difference": difference(outputs[side], outputs[OURS]),
            }
            for side, contender in sides.items()
        }, left_out


def take_turns(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of `repeats` runs of each side, in alternation, so that other load affects all sides alike."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, work in sides.items():
            time.sleep(0.05)  # the previous side's threads spin briefly before they sleep
            times[side].append(work())
    return times


def difference(actual: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest absolute difference over the largest absolute value; for integers, the share of elements that differ.

    Returns the maximum over all arrays. Raises InputError if shapes differ.
    """
    shares = []
    for a, b in zip(actual, expected, strict=True):
        if a.shape != b.shape:
            raise InputError(f"bench: the two sides computed {a.shape} and {b.shape}")
        shares.append((a != b).mean() if a.dtype.kind in "iu" else np.abs(a - b).max() / np.abs(b).max())
    return float(max(shares))


def peak(rows: list[dict], threads: int, name: str) -> float | None:
    """FLOP/s of the fastest run of any side of the case `name` with `threads` threads; None without such a row."""
    for row in rows:
        if row["case"] == name and row["threads"] == threads:
            return row["flops"] / min(min(side["seconds"]) for side in row["sides"].values())
    return None


def summary(case: Case, threads: int, sides: dict[str, dict], peak: float | None) -> dict:
    """A row of the table: medians, and ratios of ccnet to the best rival, which has the lowest median time."""
    flops = sides[OURS].pop("flops")
    for side in sides.values():
        side["median"] = statistics.median(side["seconds"])
        side["added"] = side["memory"]["peak"] - side["memory"]["imported"]
    rivals = [side for side in case.rivals if side in sides]
    best = min(rivals, key=lambda side: sides[side]["median"])
    ours, theirs = sides[OURS], sides[best]
    memory = case.kind != "loader" and theirs["added"] > 0  # most memory of the loader is in its workers
    return {
        "case": case.name,
        "threads": threads,
        "best": best,
        "flops": flops,
        "amount": case.amount,
        "options": dict(case.options),
        "time_ratio": ours["median"] / theirs["median"],
        "memory_ratio": ours["added"] / theirs["added"] if memory else None,
        "floor_ratio": ours["median"] / (flops / peak) if flops and peak else None,
        "targets": dict(case.targets) if threads == 2 or case.kind == "loader" else {},
        "difference": max(sides[side]["difference"] for side in rivals),
        "sides": sides,
    }


def line(row: dict) -> str:
    """A row as text, in milliseconds and megabytes."""
    ours, theirs, targets = row["sides"][OURS], row["sides"][row["best"]], row["targets"]

    def ratio(key: str, width: int) -> str:
        value, target = row[f"{key}_ratio"], targets.get(key)
        return ("" if value is None else f"{value:.2f}").rjust(width) + (f"≤ {target:.2f}" if target else "").rjust(8)

    others = [f"{side} {1e3 * found['median']:.1f}" for side, found in row["sides"].items()
              if side not in (OURS, row["best"])] + [f"{side} left out" for side in row["left_out"]]  # fmt: skip
    return (
        f"{row['case']:<37}{row['threads']:>7}{1e3 * ours['median']:>10.1f}{1e3 * theirs['median']:>10.1f}"
        f"{ratio('time', 7)}{ours['added'] / 1e6:>7.0f}{theirs['added'] / 1e6:>7.0f}{ratio('memory', 7)}"
        f"{ratio('floor', 9)}{row['difference']:>12.1e}  {row['best']}" + f" ({', '.join(others)})" * bool(others)
    )


def notes(rows: list[dict]) -> list[str]:
    """Notes below the table: rivals left out, rates, attention's time per pixel, memory compared with non-local."""
    found = []
    for row in rows:
        name, ours, theirs = f"{row['case']}, threads: {row['threads']}", row["sides"][OURS], row["sides"][row["best"]]
        found += [f"left out: {reason}" for reason in row["left_out"].values()]
        if row["amount"]:
            amount, unit = row["amount"]
            speeds = [amount / side["median"] for side in (ours, theirs)]
            found.append(f"{name}: {speeds[0]:.4g} {unit}/s, PyTorch {speeds[1]:.4g}")
        if row["case"].startswith("criss-cross"):
            batch, height, width = (row["options"][name] for name in ("batch", "height", "width"))
            each = 1e9 * ours["median"] / (batch * height * width)
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


def write(out: Path, device: str, rows: list[dict]) -> None:
    """Write all rows so far, with the machine and versions they were measured on, to `out` (JSON)."""
    versions = {name: importlib.metadata.version(name) for name in ("ccnet", "jittor", "torch")}
    driver = cuda.find_driver() if device == "cuda" else None
    where = {"processor": examine.processor(), "cores": os.cpu_count(), "system": platform.platform(), "device": device,
             "gpus": [gpu.name for gpu in driver.gpus] if driver else []}  # fmt: skip
    write_json(out, {"machine": where, "versions": versions, "cases": rows})
