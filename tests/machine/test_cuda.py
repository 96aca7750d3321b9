import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from ccnet.machine import cuda
from ccnet.machine.cuda import Driver, Gpu
from ccnet.machine.toolkit import Toolkit

H200, RTX_5090 = Gpu("NVIDIA H200", 90), Gpu("RTX 5090", 120)
DRIVER = Driver(13000, (H200,))
TOOLKIT = Toolkit(Path("/cuda"), 13000, "9.19.1", (), {})


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    monkeypatch.setattr(Toolkit, "tree", tmp_path)


@pytest.mark.parametrize(
    ("driver", "toolkit", "said"),
    [
        (DRIVER, TOOLKIT, {}),
        (Driver(13020, (H200,)), replace(TOOLKIT, cuda=12040), {}),
        (None, TOOLKIT, {"driver": ("no NVIDIA driver", "driver 580")}),
        (None, replace(TOOLKIT, cuda=12040), {"driver": ("no NVIDIA driver", "driver 525")}),
        (Driver(12040, (H200,)), TOOLKIT, {"driver": ("CUDA 12.4 at most", "CUDA_HOME")}),
        (Driver(11080, (H200,)), TOOLKIT, {"driver": ("CUDA 11.8 at most", "driver 580")}),
        (Driver(13000, (), 100), TOOLKIT, {"GPU": ("no GPU answers (error 100)", "CUDA_VISIBLE_DEVICES")}),
        (Driver(13000, (H200, RTX_5090)), TOOLKIT, {}),
        (Driver(13000, (RTX_5090,)), replace(TOOLKIT, cuda=12080), {}),
        (Driver(13000, (RTX_5090,)), replace(TOOLKIT, cuda=12060),
         {"GPU": ("RTX 5090 is sm_120, which CUDA 12.6 cannot build for", "pip install '.[cuda13]'")}),
        (Driver(13000, (Gpu("B300", 103),)), replace(TOOLKIT, cuda=12080),
         {"GPU": ("B300 is sm_103, which CUDA 12.8 cannot build for", "pip install '.[cuda13]'")}),
        (Driver(13000, (Gpu("R300", 130),)), TOOLKIT,
         {"GPU": ("R300 is sm_130, which CUDA 13.0 cannot build for", "or compute on the CPU")}),
        (Driver(13000, (RTX_5090,)), None, {"CUDA": ("no CUDA toolkit", "pip install '.[cuda13]'")}),
        (Driver(13000, (Gpu("V100", 70),)), TOOLKIT, {"GPU": ("V100 is sm_70; CUDA 13", "CUDA 12")}),
        (Driver(13000, (Gpu("V100", 70),)), replace(TOOLKIT, cuda=12040), {}),
        (DRIVER, None, {"CUDA": ("no CUDA toolkit", "pip install '.[cuda13]'")}),
        (Driver(12040, (H200,)), None, {"CUDA": ("no CUDA toolkit", "install CUDA 12")}),
        (DRIVER, replace(TOOLKIT, missing=("cublas.h",)), {"CUDA": ("/cuda lacks cublas.h", "pip install")}),
        (DRIVER, replace(TOOLKIT, cuda=11080), {"CUDA": ("neither 12 nor 13", "pip install")}),
        (DRIVER, replace(TOOLKIT, cudnn=""), {"cuDNN": ("no cuDNN for CUDA 13", "pip install '.[cuda13]'")}),
        (DRIVER, replace(TOOLKIT, cuda=12040, cudnn=""), {"cuDNN": ("for CUDA 12", "nvidia-cudnn-cu12")}),
    ],
)  # fmt: skip
def test_what_keeps_jittor_from_a_gpu(driver, toolkit, said, prepared):
    found = cuda.problems(driver, toolkit)
    assert list(found) == list(said)
    for subject, (text, remedy) in said.items():
        assert text in found[subject].text
        assert remedy in found[subject].remedy


def test_an_nvcc_that_jittor_calls_directly_makes_what_jittor_asks_for(prepared):
    assert cuda.problems(DRIVER, TOOLKIT, in_tree=False) == {}
    problem = cuda.problems(Driver(13000, (RTX_5090,)), TOOLKIT, in_tree=False)["GPU"]
    assert problem.text == "RTX 5090 is sm_120; Jittor 1.3.11 asks for sm_90 at most"
    assert problem.remedy.startswith("unset nvcc_path")


@pytest.mark.parametrize(
    ("architectures", "code"),
    [((120,), "sm_120"), ((120, 90, 120, 80), "sm_90,sm_120"), ((90,), "sm_90"), ((80,), "")],
)
def test_code_is_made_for_the_gpus_that_jittor_takes_for_sm_90(architectures, code):
    assert cuda.gpu_code(Driver(13000, tuple(Gpu("", number) for number in architectures))) == code


def test_a_toolkit_is_prepared_first(monkeypatch, tmp_path):
    monkeypatch.setattr(Toolkit, "tree", tmp_path / "not yet")
    assert cuda.problems(DRIVER, TOOLKIT) == {
        "CUDA": ("CUDA 13.0 in /cuda is not yet prepared for Jittor", "ccnet doctor --fix")
    }


class Library:
    """libcuda, with GPUs by name and compute capability."""

    def __init__(self, error: int, *gpus: tuple[bytes, int, int]):
        self.error, self.gpus = error, gpus

    def cuDriverGetVersion(self, version) -> int:  # noqa: N802 (NVIDIA's names)
        version._obj.value = 13000
        return 0

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.error

    def cuDeviceGetCount(self, count) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device, number: int) -> int:  # noqa: N802
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name, length: int, device) -> int:  # noqa: N802
        name.value = self.gpus[device.value][0]
        return 0

    def cuDeviceGetAttribute(self, value, attribute: int, device) -> int:  # noqa: N802
        value._obj.value = self.gpus[device.value][{75: 1, 76: 2}[attribute]]
        return 0


@pytest.mark.parametrize(
    ("library", "driver"),
    [
        (Library(0, (b"NVIDIA H200", 9, 0), (b"NVIDIA A100", 8, 0)), Driver(13000, (H200, Gpu("NVIDIA A100", 80)))),
        (Library(0, (b"RTX 5090", 12, 0)), Driver(13000, (Gpu("RTX 5090", 120),))),
        (Library(999, (b"NVIDIA H200", 9, 0)), Driver(13000, (), 999)),
    ],
)
def test_what_the_driver_says(library, driver, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert cuda.find_driver() == driver


def test_no_driver(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert cuda.find_driver() is None
