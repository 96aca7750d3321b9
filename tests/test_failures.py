"""The texts are those that Jittor 1.3.11 raises; where CUDA is needed, as its source writes them."""

import pytest

from ccnet.failures import explain, explain_command, out_of_memory
from ccnet.runtime import jt

ALLOCATORS = [  # src/mem/allocator/*.cc and src/mem/mem_info.cc, without CUDA: thrown by an operator of ours
    "Unable to alloc cuda device memory for size 17179869184",
    "GPU memory is overflow, please reduce your batch_size or data size! Total: 23.7GB Used: 23.6GB",
    "CUDA error at /x/cuda_managed_allocator.cc:21 code=2( cudaErrorMemoryAllocation ) cudaMallocManaged(&ptr, size)",
    "CUDA error at /x/cudnn_conv_op.cc:240 code=4( CUDNN_STATUS_ALLOC_FAILED ) cudnnFind",
]


def failure(source: str) -> RuntimeError:
    """What Jittor makes of a fault in an operator."""
    with pytest.raises(RuntimeError) as raised:
        jt.code((1,), "float32", [jt.ones(3)], cpu_src=source).sync()
    return raised.value


@pytest.mark.parametrize("said", ALLOCATORS)
def test_out_of_memory_says_so_and_what_helps(said):
    error = failure(f'LOGf << "{said}";')
    assert str(error).index(said) > 300
    assert out_of_memory(error)
    assert explain(error, "lower crop_size") == f"out of memory ({said}): lower crop_size"


def test_numpy_out_of_memory():
    assert explain(MemoryError(), "lower crop_size") == "out of memory (MemoryError): lower crop_size"


def test_the_cause_alone_is_said():
    error = failure('LOGf << "the wheel\\n" << "came off";')
    assert explain(error, "") == "the wheel came off"
    assert not out_of_memory(error)
    with pytest.raises(RuntimeError) as raised:
        jt.ones((3, 4)) + jt.ones((5, 6))
    assert "Shape not match, x:float32[3,4,] y:float32[5,6,]" in explain(raised.value, "")


def test_a_failed_compilation_is_no_lack_of_memory(capfd):
    error = failure("nonsense(1);")
    assert not out_of_memory(error)
    assert explain(error, "").startswith("Check failed ret(256) == 0(0) Run cmd failed: ")
    assert len(explain(error, "")) < 310
    capfd.readouterr()


def test_others_keep_their_words():
    assert explain(OSError(28, "No space left on device"), "") == "[Errno 28] No space left on device"
    assert explain(ValueError("for this\nreason: none"), "") == "for this reason: none"


@pytest.mark.parametrize(("command", "said"), [("train", ["batch_size", "crop_size"]), ("evaluate", ["--window"])])
def test_out_of_memory_names_what_needs_less(command, said):
    error = RuntimeError("x" * 500 + "\n[Reason]: Unable to alloc cuda device memory for size 8")
    line = explain_command(command, error)
    assert line.startswith("out of memory (Unable to alloc cuda device memory for size 8): ")
    assert all(name in line for name in said)
