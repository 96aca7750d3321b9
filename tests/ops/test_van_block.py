import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.contenders.inputs import drawn
from ccnet.models.van import Block
from ccnet.ops import van_block
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw


def block(channels: int, ratio: int, dilation: int) -> Block:
    """Its weights are such that leaving any of them out shows."""
    module = Block(channels, ratio, drop_path=0.0, dilation=dilation)
    for name, value in module.state_dict().items():
        value.assign(jt.array(drawn(name, tuple(value.shape))))
    module.eval()
    return module


def compare(channels: int, ratio: int, dilation: int, batch: int, height: int, width: int) -> None:
    module, x = block(channels, ratio, dilation), jt.array(draw(0, (batch, channels, height, width))[0])
    layer_by_layer = module(x).numpy()
    with jt.no_grad():
        assert van_block.available(x)
        assert_close(module(x).numpy(), layer_by_layer)


# several strips of rows, chunks of hidden channels and pieces of pixels, none of them full
LARGE = [(8, 9, 1, 1, 70, 67), (20, 7, 2, 2, 41, 130), (4, 4, 4, 1, 5, 2100)]


@pytest.mark.parametrize("size", LARGE)
def test_large_ones_are_what_the_layers_compute_one_by_one(size):
    compare(*size)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, most) for most in (9, 8, 6, 3, 30, 40)]))
def test_is_what_the_layers_compute_one_by_one(size):
    compare(*size)


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads_computes_the_same(threads):
    module, x = block(12, 6, 1), jt.array(draw(1, (1, 12, 33, 29))[0])
    with jt.no_grad():
        expected = module(x).numpy()
        set_threads = jt.code((1,), "float32", [jt.array([threads])], cpu_header="#include <omp.h>", cpu_src="""
            out0_p[0] = omp_get_max_threads(); omp_set_num_threads(in0_p[0]);""")  # fmt: skip
        before = int(set_threads.item())
        try:
            actual = module(x).numpy()
        finally:
            jt.code((1,), "float32", [jt.array([before])], cpu_header="#include <omp.h>", cpu_src="""
                omp_set_num_threads(in0_p[0]); out0_p[0] = 0;""").sync()  # fmt: skip
    assert_close(actual, expected)


def test_applies_where_nothing_is_kept_for_gradients():
    x = jt.array(np.zeros((1, 4, 8, 8), np.float32))
    assert not van_block.available(x)
    with jt.no_grad():
        assert van_block.available(x)
        assert not van_block.available(x.float64().cast("float16"))
