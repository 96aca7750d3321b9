from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.ops.gelu import gelu
from tests.ops.helpers import assert_close, draw, outputs_and_gradients, torch_outputs_and_gradients


@settings(max_examples=10, deadline=None)
@given(shape=st.lists(st.integers(1, 40), min_size=4, max_size=4), spread=st.sampled_from([0.1, 1.0, 10.0]))
def test_agrees_with_torch(shape, spread):
    from torch.nn import functional

    (x,) = draw(sum(shape), shape)
    theirs = torch_outputs_and_gradients(functional.gelu, x * spread)
    for our, their in zip(outputs_and_gradients(gelu, x * spread), theirs, strict=True):
        assert_close(our, their)
