import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.ops.resize import resize, resize_rows, source_rows
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw, outputs_and_gradients, torch_outputs_and_gradients

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=40, deadline=None)
@given(before=SIZES, after=SIZES, align_corners=st.booleans())
def test_agrees_with_torch(before, after, align_corners):
    from torch.nn import functional

    (x,) = draw(sum(before), (2, 3, *before))
    ours = outputs_and_gradients(lambda x: resize(x, after, align_corners), x)
    theirs = torch_outputs_and_gradients(
        lambda x: functional.interpolate(x, after, mode="bilinear", align_corners=align_corners), x
    )
    for our, their in zip(ours, theirs, strict=True):
        assert_close(our, their)


def test_same_size_is_the_same_image():
    x = jt.ones((1, 2, 5, 6))
    assert resize(x, (5, 6)) is x


def test_corners_stay_when_aligned():
    (x,) = draw(0, (1, 1, 4, 5))
    y = resize(jt.array(x), (9, 13), align_corners=True).numpy()
    assert np.allclose(y[..., ::8, ::12], x[..., ::3, ::4], atol=1e-6)


@given(before=SIZES, after=SIZES, align_corners=st.booleans(), cut=st.floats(0, 1, allow_subnormal=False))
def test_some_rows_are_those_of_the_whole(before, after, align_corners, cut):
    (x,) = draw(sum(before), (2, *before))
    whole = resize(jt.array(x[None]), after, align_corners)[0].numpy()
    first = int(cut * (after[0] - 1))
    upper, lower, share = (part[first:] for part in source_rows(before[0], after[0], align_corners))
    rows = jt.array(x[:, upper[0] : lower[-1] + 1])
    found = resize_rows(rows, upper - upper[0], lower - upper[0], share, after[1], align_corners)
    assert_close(found.numpy(), whole[:, first:])
