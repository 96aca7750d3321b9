import pytest

from ccnet.models import build
from ccnet.ops.criss_cross import CrissCrossAttention
from ccnet.ops.depthwise import DepthwiseConv
from ccnet.ops.flops import count
from ccnet.ops.non_local import NonLocal
from ccnet.ops.pointwise import PointwiseConv
from ccnet.runtime import jt, nn

# the author's figures in GFLOPs, at 1 × 512 × 97 × 97 with 64 channels of queries and keys
PAPER = {1: 8.29, 2: 16.58, 3: 24.88}
# G multiply-adds of classifiers of 1000 classes at 224 × 224: torchvision's table of weights (plain stem);
# VAN's README and paper, Table 5
PUBLISHED = {
    "resnet18": 1.81, "resnet34": 3.66, "resnet50": 4.09, "resnet101": 7.80,
    "van_tiny": 0.9, "van_small": 2.5, "van_base": 5.0, "van_large": 9.0,
}  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, attention, recurrence: int):
        self.attention = attention
        self.recurrence = recurrence

    def execute(self, x):
        for _ in range(self.recurrence):
            x = self.attention(x)
        return x


def attention_flops(attention, recurrence: int = 1) -> float:
    flops = count(Recurrent(attention, recurrence), (1, 512, 97, 97))
    assert list(flops) == ["attention"]
    return flops["attention"] / 1e9


@pytest.mark.parametrize("recurrence", PAPER)
def test_criss_cross_attention_costs_what_the_paper_says(recurrence):
    assert attention_flops(CrissCrossAttention(512), recurrence) == pytest.approx(PAPER[recurrence], rel=0.005)


def test_non_local_attention_costs_what_the_paper_says():
    assert attention_flops(NonLocal(512)) == pytest.approx(108.16, rel=0.005)


def test_the_plain_criss_cross_attention_counts_the_same(monkeypatch):
    monkeypatch.setattr("ccnet.ops.kernel.available", lambda *variables: False)
    assert attention_flops(CrissCrossAttention(512)) == pytest.approx(PAPER[1], rel=0.005)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_classifier_costs_what_is_published(name):
    """To the published digit: VAN's README prints one behind the point, and counts a little besides."""
    van = name.startswith("van")
    backbone = build(name, 2, output_stride=32, **({} if van else {"deep_stem": False})).backbone
    multiply_adds = sum(count(backbone, (1, 3, 224, 224)).values()) / 2 + backbone.channels[-1] * 1000
    tolerance = {"rel": 0.01, "abs": 0.05} if van else {"abs": 0.005}
    assert multiply_adds / 1e9 == pytest.approx(PUBLISHED[name], **tolerance)


@pytest.mark.parametrize(
    ("conv", "multiply_adds"),
    [
        (nn.Conv(6, 8, 3, stride=2, padding=1), 8 * 6 * 9 * 5 * 4),
        (PointwiseConv(6, 8, bias=False), 8 * 6 * 10 * 7),
        (DepthwiseConv(6, 5, dilation=3), 6 * 25 * 10 * 7),
    ],
    ids=["dense", "pointwise", "depthwise"],
)
def test_a_convolution_counts_its_multiply_adds(conv, multiply_adds):
    assert count(nn.Sequential(conv, nn.ReLU()), (2, 6, 10, 7)) == {"0": 2 * 2 * multiply_adds}


def test_a_bare_attention_has_no_name():
    assert list(count(NonLocal(8), (1, 8, 4, 4))) == [""]


def test_nothing_is_computed():
    """A petabyte of features would not fit in any memory."""
    before = jt.flags.exec_called
    assert count(nn.Sequential(nn.Conv(3, 1000, 1), nn.ReLU()), (1, 3, 10**6, 10**6)) == {"0": 6 * 10**15}
    assert jt.flags.exec_called == before


def test_hooks_are_gone_afterwards():
    module = nn.Sequential(nn.Conv(3, 4, 1))
    flops = count(module, (1, 3, 8, 8))
    module(jt.zeros((1, 3, 8, 8)))
    assert flops == {"0": 2 * 3 * 4 * 64}
