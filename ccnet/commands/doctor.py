"""`ccnet doctor`: check this machine for what ccnet needs; print a line for each item, with a remedy for problems."""

import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from ccnet import InputError, __version__
from ccnet.machine import cuda, examine, toolkit
from ccnet.machine.examine import Machine, Ran

COLOURS = {"ok": "\033[32m", "warning": "\033[33m", "broken": "\033[31m"}
GB = 1e9
TOLERANCE = 5e-3  # a GPU may round a convolution's inputs to TF32, with a 10-bit mantissa
OLDEST_COMPILER = 7
REBUILD = "if a g++ is too new, name an older one with cc_path; else install the wheels anew, then ccnet doctor --fix"


class Line(NamedTuple):
    """The result of one check. `state` is "ok", "warning" or "broken"; the latter two may have a `remedy`."""

    subject: str
    state: str
    text: str
    remedy: str = ""


def run(*, fix: bool = False, as_json: bool = False) -> None:
    """Examine this machine and print the results; with `fix`, first prepare its CUDA toolkit for Jittor.

    Raises InputError if any result is "broken".
    """
    if fix:
        _fix()
    here = examine.this_machine()
    devices = ["cpu"] if here.toolkit_check or cuda.problems(here.driver, here.toolkit) else ["cpu", "cuda"]
    lines = judge(here)
    for device in devices:
        print(f"ccnet: a convolution on {device} (minutes, where Jittor has yet to compile itself)", file=sys.stderr)
        line = judge_convolution(device, examine.convolve(device))
        if line.state == "broken" and any(other.state == "broken" for other in lines):
            line = line._replace(remedy="first put right what is broken above")
        lines.append(line)
    lines = [line._replace(text=_homeless(line.text), remedy=_homeless(line.remedy)) for line in lines]
    broken = [line.subject for line in lines if line.state == "broken"]
    report = {"ccnet": __version__, "broken": broken, "lines": [line._asdict() for line in lines]}
    print(json.dumps(report, indent=1) if as_json else "\n".join(map(_shown, lines)))
    if broken:
        raise InputError(f"broken: {', '.join(broken)}; the remedies are above")


def _fix() -> None:
    found = toolkit.find_toolkit()
    if not found or not found.complete:
        return
    tree = toolkit.prepare(found)
    if failure := examine.check_toolkit(tree):
        shutil.rmtree(tree)  # otherwise every command would try to build with it
        raise InputError(f"CUDA in {found.root} does not build a program: {failure}: {REBUILD}")
    print(f"ccnet: CUDA prepared for Jittor: {tree}", file=sys.stderr)


def judge(found: Machine) -> list[Line]:
    """Lines for all subjects except the convolutions."""
    return [
        _python(found),
        _compiler(found),
        _jittor(found),
        _caches(found),
        _onednn(found),
        *_cuda(found),
        _amount("memory", found.memory, 4 * GB, "free", "close other programs, or lower batch_size"),
        _amount(
            "disk",
            found.disk,
            3 * GB,
            "free where the caches are",
            "make room, or move the caches to a larger disk with JITTOR_HOME",
        ),
        _shared_memory(found),
        _mpi(found),
        _slurm(found),
    ]


def judge_convolution(device: str, ran: Ran) -> Line:
    """The line for the test convolution on a device."""
    remedy = "pip install -e . in a fresh environment, or report this with the output of ccnet doctor --json"
    if device == "cuda":
        remedy = f"to compute on the CPU meanwhile, set nvcc_path to nothing (export nvcc_path=); {remedy}"
    if ran.failure:
        return Line(device, "broken", f"Jittor's convolution failed: {ran.failure[:300]}", remedy)
    difference = float(ran.output.split()[-1])
    if not difference < TOLERANCE:
        return Line(device, "broken", f"Jittor's convolution differs from NumPy's by {difference:.0e}", remedy)
    return Line(device, "ok", f"a convolution agrees with NumPy's (largest difference {difference:.0e})")


def _python(found: Machine) -> Line:
    minor = ".".join(found.python.split(".")[:2])
    missing = ["Python.h"] * (not found.python_headers) + [f"python{minor}-config"] * (not found.python_config)
    if missing:
        text = f"{found.python}, without {' and '.join(missing)}, which Jittor compiles with"
        remedy = f"apt install python{minor}-dev, or name a python{minor}-config with python_config_path"
        return Line("Python", "broken", text, remedy)
    return Line("Python", "ok", f"{found.python}, with its headers")


def _compiler(found: Machine) -> Line:
    if not found.compiler:
        return Line("C++ compiler", "broken", "no g++", "apt install g++, or name one with cc_path")
    if int(found.compiler.split(".")[0]) < OLDEST_COMPILER:
        text = f"g++ {found.compiler} is too old"
        return Line("C++ compiler", "broken", text, f"install g++ {OLDEST_COMPILER} or newer and name it with cc_path")
    if not found.openmp:
        return Line("C++ compiler", "broken", f"g++ {found.compiler}, without OpenMP (libgomp)", "apt install libgomp1")
    return Line("C++ compiler", "ok", f"g++ {found.compiler}, with OpenMP")


def _jittor(found: Machine) -> Line:
    if not found.jittor:
        return Line("Jittor", "broken", "not installed", "in ccnet's folder: pip install .")
    return Line("Jittor", "ok", found.jittor)


def _caches(found: Machine) -> Line:
    text = f"{found.cache}, {found.cache_size / GB:.1f} GB"
    if not found.cache_writable:
        return Line("caches", "broken", f"{text}, not writable", "name another folder with JITTOR_HOME")
    return Line("caches", "ok", text)


def _onednn(found: Machine) -> Line:
    if not found.onednn:
        return Line("oneDNN", "broken", "Jittor would have to download it", "pip install jittor-offline==0.0.7")
    return Line("oneDNN", "ok", "here")


def _cuda(found: Machine) -> list[Line]:
    """Lines for CUDA: a missing part is "broken" if there is a GPU, else (CUDA partly installed) a "warning"."""
    driver, kit = found.driver, found.toolkit
    gpu = found.nvidia_card or bool(driver and driver.gpus)
    if not (gpu or driver or kit):
        return [Line("GPU", "ok", "none: everything is computed on the CPU")]
    texts = {"driver": f"runs CUDA up to {cuda.spelled(driver.cuda)}" if driver else "",
             "GPU": ", ".join(f"{gpu.name} (sm_{gpu.architecture})" for gpu in driver.gpus) if driver else "",
             "CUDA": f"{cuda.spelled(kit.cuda)}, complete and prepared for Jittor, in {kit.root}" if kit else "",
             "cuDNN": kit.cudnn if kit else ""}  # fmt: skip
    problems = cuda.problems(driver, kit)
    if found.toolkit_check:
        problems.setdefault("CUDA", cuda.Problem(f"a program does not build: {found.toolkit_check[:300]}", REBUILD))
    lines = []
    for subject, text in texts.items():
        if problem := problems.get(subject):
            lines.append(Line(subject, "broken" if gpu else "warning", *problem))
        elif text:
            lines.append(Line(subject, "ok", text))
    return lines


def _amount(subject: str, amount: int, wanted: float, text: str, remedy: str) -> Line:
    shown = f"{amount / GB:.1f} GB {text}"
    return Line(subject, "ok", shown) if amount >= wanted else Line(subject, "warning", shown, remedy)


def _shared_memory(found: Machine) -> Line:
    """Check /dev/shm, which holds Python's interprocess locks and MPI's messages."""
    remedy = "empty or enlarge it (mount -o remount,size=1G /dev/shm; docker run --shm-size=1g)"
    if not found.shared_memory:
        return Line("shared memory", "broken", "none left in /dev/shm, or not writable: no worker could start", remedy)
    return _amount("shared memory", found.shared_memory, 0.06 * GB, "free in /dev/shm", remedy)


def _mpi(found: Machine) -> Line:
    if len(found.mpi) == 1:
        return Line("MPI", "warning", f"{found.mpi[0]} alone", "apt install openmpi-bin libopenmpi-dev")
    return Line("MPI", "ok", "mpicc and mpirun" if found.mpi else "none; for several processes only")


def _slurm(found: Machine) -> Line:
    if found.slurm and not found.slurm_plugin:
        return Line("SLURM", "warning", "here, without Snakemake's plugin", "in ccnet's folder: pip install '.[slurm]'")
    return Line("SLURM", "ok", f"here, with Snakemake's plugin {found.slurm_plugin}" if found.slurm else "none")


def _homeless(text: str) -> str:
    """Replace the home folder by ~, so that the text can be published without the user's name."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _shown(line: Line) -> str:
    state = f"{line.state:<8}"
    if sys.stdout.isatty():
        state = f"{COLOURS[line.state]}{state}\033[0m"
    remedy = f"\n{'':<24}→ {line.remedy}" if line.remedy else ""
    return f"{state} {line.subject:<14} {line.text}{remedy}"
