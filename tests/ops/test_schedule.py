import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.ops.schedule import poly


def normal(low: float, high: float):
    """Jittor's kernels switch subnormal numbers off in the whole process, and hypothesis wants to know."""
    return st.floats(low, high, allow_subnormal=False)


def test_rises_then_falls_as_the_formula_says():
    rates = [poly(step, steps=12, base=1.0, power=0.9, warmup=2, final=0.1) for step in range(12)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[7] == pytest.approx(0.9 * 0.5**0.9 + 0.1)
    assert rates == [*sorted(rates[:3]), *sorted(rates[3:], reverse=True)]


@given(st.integers(1, 50), st.integers(0, 60), normal(0, 3), normal(1e-6, 1), normal(0, 1))
def test_is_never_negative_nor_above_base(steps, warmup, power, base, share):
    for step in range(steps):
        rate = poly(step, steps=steps, base=base, power=power, warmup=warmup, final=share * base)
        assert 0 <= rate <= base * (1 + 1e-9)
