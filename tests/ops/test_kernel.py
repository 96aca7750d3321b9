import numpy as np
import pytest

from ccnet.ops import kernel
from ccnet.runtime import jt

KERNELS = sorted(path.stem for path in kernel.FOLDER.glob("*.cc") if path.stem != "kernel")


def test_applies_where_there_is_a_source_for_the_type(monkeypatch):
    x = jt.ones(3)
    assert kernel.available("resize", x, x)
    assert not kernel.available("resize", x, x.bfloat16())
    monkeypatch.setattr(kernel, "on_cuda", lambda: True)
    assert not kernel.available("resize", x)


def test_without_kernels_none_is_available():
    x = jt.ones(3)
    with kernel.without_kernels():
        assert not kernel.available("resize", x)
    assert kernel.available("resize", x)


def test_launch_passes_sizes_and_numbers():
    x = jt.array(np.arange(6, dtype=np.float32).reshape(2, 3))
    call = 'for (int64_t i = 0; i < in0_shape0 * in0_shape1; i++) out0_p[i] = data["factor"] * in0_p[i];'
    for factor in (2, 3):
        (y,) = kernel.launch("batch_norm", call, [np.array(x.shape)], ["float32"], [x], {"factor": factor})
        assert np.array_equal(y.numpy(), factor * x.numpy())


def test_scratch_memory_belongs_to_its_owner():
    call = """
        struct First; struct Second;
        scratch<First>(3)[0] = 1;
        scratch<Second>(300)[0] = 2;
        out0_p[0] = scratch<First>(3)[0];
        out0_p[1] = scratch<Second>(3)[0];
        out0_p[2] = scratch<First>(3) == scratch<Second>(3);"""
    (y,) = kernel.launch("batch_norm", call, [(3,)], ["float32"], [jt.ones(1)])
    assert y.numpy().tolist() == [1, 2, 0]


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_need_no_particular_processor(name):
    text = (kernel.FOLDER / f"{name}.cc").read_text(encoding="utf-8")
    assert "immintrin" not in text
    assert f"namespace {name} {{" in text
    assert (kernel.FOLDER / f"{name}.py").exists() or name == "cross_entropy"
