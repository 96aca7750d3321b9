"""The CUDA kernels: compiled by nvcc, run on the CPU in an emulation of CUDA, and (`pytest -m gpu`) on a GPU.

What runs in the emulation is the `.cu` file as it is, called by the module as it is: only `jt.code` is handed the text
as C++ for the CPU, with `cuda_on_cpu.h` before it, and its outputs are NaN to begin with.
"""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ccnet.ops import kernel
from ccnet.ops.depthwise import DepthwiseConv
from ccnet.runtime import jt
from tests.ops import test_criss_cross, test_depthwise
from tests.ops.helpers import assert_close, on_gpu, outputs_and_gradients, torch_outputs_and_gradients

EMULATION = Path(__file__).with_name("cuda_on_cpu.h").read_text(encoding="utf-8")
KERNELS = sorted(path.stem for path in kernel.FOLDER.glob("*.cu") if path.stem != "kernel")
TARGETS = (80, 90, 120)
TYPES = {"float32": "float", "bfloat16": "__nv_bfloat16"}
IMAGES = [(2, 16, 5, 7), (3, 3, 1, 6), (1, 8, 6, 1), (1, 70, 9, 33)]
# B, C, H, W, then kernel size, stride, dilation, bias
CONVOLUTIONS = [
    (2, 3, 27, 37, 7, 1, 3, True),  # VAN's; tiles across and down
    (1, 2, 40, 9, 3, 1, 1, False),
    (2, 2, 11, 14, 5, 1, 2, True),
    (2, 3, 9, 13, 3, 2, 2, True),
    (1, 2, 8, 9, 9, 1, 1, True),  # a size that is not unrolled
    (1, 2, 7, 6, 7, 1, 20, False),  # a tile larger than shared memory
]


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def tolerance(request, monkeypatch):
    """Kernels run in the emulation, or on the GPU: the tolerance of float32 there. nvcc is told to use fast-math."""
    if request.param == "emulated":
        replace_code(monkeypatch, emulated_code)
        yield 1e-5
    else:
        with on_gpu():
            yield 1e-4


def replace_code(monkeypatch, code) -> None:
    """The modules believe in a GPU, and launch their kernels by `code` instead of `jt.code`."""
    monkeypatch.setattr(kernel, "on_cuda", lambda: True)
    monkeypatch.setattr(kernel, "jt", SimpleNamespace(code=code))


def emulated_code(shapes, dtypes, inputs, *, cuda_header, cuda_src, data):
    spoil = "".join(f"std::fill(out{i}_p, out{i}_p + out{i}->num, NAN);" for i in range(len(shapes)))
    return jt.code(shapes, dtypes, inputs, cpu_header=EMULATION + cuda_header, cpu_src=spoil + cuda_src, data=data)


def attention_by_torch(x, *parameters):
    import torch

    pairs = zip(parameters[:6:2], parameters[1:6:2], strict=True)
    query, key, value = (torch.nn.functional.conv2d(x, weight, bias) for weight, bias in pairs)
    height = x.shape[2]
    itself = torch.zeros(height, height).fill_diagonal_(-torch.inf)[:, None]
    of_columns = torch.einsum("bchw,bciw->bhwi", query, key) + itself
    attention = torch.cat([of_columns, torch.einsum("bchw,bchj->bhwj", query, key)], 3).softmax(3)
    from_columns = torch.einsum("bhwi,bciw->bchw", attention[..., :height], value)
    return parameters[6] * (from_columns + torch.einsum("bhwj,bchj->bchw", attention[..., height:], value)) + x


def convolution(channels, size, stride, dilation, bias):
    """(ours, PyTorch's), each a function of x, weight and perhaps bias."""
    from torch.nn import functional

    module = DepthwiseConv(channels, size, stride, dilation, bias)

    def oracle(x, weight, bias=None):
        return functional.conv2d(x, weight, bias, stride, dilation * (size // 2), dilation, channels)

    return test_depthwise.with_parameters(module), oracle


def in_bfloat16(function):
    return lambda *variables: function(*(variable.bfloat16() for variable in variables)).float32()


def compare(ours, theirs, inputs, tolerance):
    """Outputs and all gradients."""
    actual, expected = outputs_and_gradients(ours, *inputs), torch_outputs_and_gradients(theirs, *inputs)
    if theirs is attention_by_torch:  # softmax is blind to the key's bias: that gradient is zero but for rounding
        assert np.abs(actual.pop(5) - expected.pop(5)).max() <= 10 * tolerance * np.abs(expected[4]).max()
    for our, their in zip(actual, expected, strict=True):
        assert_close(our, their, tolerance)


@pytest.mark.parametrize("image", IMAGES)
def test_attention(image, tolerance):
    compare(test_criss_cross.fast, attention_by_torch, test_criss_cross.arrays(image), tolerance)


@pytest.mark.parametrize("image", IMAGES[:1])
def test_attention_in_bfloat16(image, tolerance):
    compare(in_bfloat16(test_criss_cross.fast), attention_by_torch, test_criss_cross.arrays(image), 0.05)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case, tolerance):
    inputs = test_depthwise.arrays(*case[:5], case[7])
    compare(*convolution(case[1], *case[4:]), inputs, tolerance)


@pytest.mark.parametrize("case", [CONVOLUTIONS[0], CONVOLUTIONS[3]])
def test_convolution_in_bfloat16(case, tolerance):
    ours, theirs = convolution(case[1], *case[4:])
    compare(in_bfloat16(ours), theirs, test_depthwise.arrays(*case[:5], case[7]), 0.05)


def test_the_same_to_the_last_bit(tolerance):
    """Whatever the order of threads, which the emulation draws anew each time."""
    attention = test_criss_cross.fast, test_criss_cross.arrays(IMAGES[0])
    convolved = convolution(3, 7, 1, 3, True)[0], test_depthwise.arrays(2, 3, 27, 37, 7, True)
    for function, inputs in (attention, convolved):
        once, again = outputs_and_gradients(function, *inputs), outputs_and_gradients(function, *inputs)
        assert all(map(np.array_equal, once, again))


REVERSE = """
namespace {
__global__ void reverse(const float *from, float *to) {
    __shared__ float kept[64];
    kept[threadIdx.x] = from[threadIdx.x];
    BARRIER
    to[threadIdx.x] = kept[63 - threadIdx.x];
}
}"""


@pytest.mark.parametrize("barrier", ["", "__syncthreads();"])
def test_the_emulation_notices_a_missing_barrier(barrier):
    header = EMULATION + kernel._text("kernel.cu") + REVERSE.replace("BARRIER", barrier)
    x = np.arange(64, dtype=np.float32)
    y = jt.code([x.shape], ["float32"], [jt.array(x)], cpu_header=header,
                cpu_src="launch(reverse, dim3(1), dim3(64), in0_p, out0_p);")[0].numpy()  # fmt: skip
    assert np.array_equal(y, x[::-1]) == bool(barrier)


def as_jittor_compiles(launches: list[dict]) -> str:
    """The text that Jittor makes of these launches of one source, in short."""
    text = ["#include <cuda_bf16.h>", "#include <map>", launches[0]["header"], "namespace jittor {"]
    for number, launch in enumerate(launches):
        pointers = [f"{TYPES[dtype]} *{name}_p" for name, dtype, _ in launch["arguments"]]
        sizes = [f"int64_t {name}_shape{i}" for name, _, dims in launch["arguments"] for i in range(dims)]
        data = "std::map<std::string, double> data"
        text.append(f"void run{number}({', '.join([*pointers, *sizes, data])}) {{ {launch['call']} }}")
    return "\n".join([*text, "}"])


@pytest.mark.parametrize("name", KERNELS)
def test_nvcc_compiles(name, monkeypatch, tmp_path):
    """For those of TARGETS that nvcc knows, forward and gradients, in both types, without spilling registers."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on PATH")
    launches = []

    def code(shapes, dtypes, inputs, *, cuda_header, cuda_src, data):
        outputs = [jt.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        named = [*((f"in{i}", v) for i, v in enumerate(inputs)), *((f"out{i}", v) for i, v in enumerate(outputs))]
        arguments = [(argument, str(v.dtype), len(v.shape)) for argument, v in named]
        launches.append({"header": cuda_header, "call": cuda_src, "arguments": arguments})
        return outputs

    replace_code(monkeypatch, code)
    convolutions = [
        (convolution(case[1], *case[4:])[0], test_depthwise.arrays(*case[:5], case[7])) for case in CONVOLUTIONS
    ]
    cases = {"criss_cross": [(test_criss_cross.fast, test_criss_cross.arrays(IMAGES[0]))], "depthwise": convolutions}
    for function, inputs in cases[name]:
        outputs_and_gradients(function, *inputs)
        outputs_and_gradients(in_bfloat16(function), *inputs)
    (tmp_path / "kernel.cu").write_text(as_jittor_compiles(launches), encoding="utf-8")
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in TARGETS if f"sm_{number}" in known]
    strict = ["-std=c++14", "--use_fast_math", "-Xptxas", "-warn-spills,-Werror"]
    command = [nvcc, *strict, *targets, "-c", "-o", tmp_path / "kernel.o", tmp_path / "kernel.cu"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
