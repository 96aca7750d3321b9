"""What Jittor would do on the host while it computes on a GPU.

Its `transpose` has no CUDA version without cuTT: where the last axis moves, it copies to the host and back. (Where the
last axis stays, another operator takes its place, `fuse_transpose`.) `argmax` and `argsort` along another axis than the
last transpose first. Here the CPU computes, on the code paths of a GPU. An operator that returns zeros stands for each
of our CUDA kernels: the test is about the operators around them.
"""

import re
from contextlib import closing, nullcontext

import pytest

from ccnet.data.loader import Batches
from ccnet.data.shards import ShardReader
from ccnet.ops import kernel
from ccnet.predictor import Predictor
from ccnet.protocol import Protocol
from ccnet.runtime import jt
from ccnet.training.trainer import Trainer
from tests import tiny
from tests.ops.test_cuda import replace_code

FAMILIES = {  # between them every operator of backbones, heads and losses, each compiled once
    "resnet": {"backbone": "resnet18", "deep_stem": True, "multi_grid": False, "contract_dilation": True,
               "head": "non_local", "category_consistency": 1.0, "loss": "ohem"},
    "van": {},
}  # fmt: skip


def zeros(shapes, dtypes, inputs, *, cuda_header, cuda_src, data) -> tuple[jt.Var, ...]:
    """In place of `jt.code` for a CUDA kernel: the same inputs and outputs, and nothing computed."""
    fill = "".join(f"std::fill(out{i}_p, out{i}_p + out{i}->num, 0);" for i in range(len(shapes)))
    return jt.code(shapes, dtypes, inputs, cpu_header="#include <algorithm>", cpu_src=fill, data=data)


def on_host(key: str) -> bool:
    """Whether an operator, by the key under which Jittor compiled it, would run on the host."""
    sizes = dict(re.findall(r"«(X?DIM)=(\w+)", key))
    sorts = re.match(r"arg_reduce«|argsort«", key) and int(sizes["DIM"], 16) != int(sizes["XDIM"], 16) - 1
    return key.startswith("transpose«") or bool(sorts)


def run_on_host(work) -> list[str]:
    """The keys of the operators of `work` that would run on the host."""
    jt.sync_all(True)
    with jt.profile_scope() as report:
        work()
        jt.sync_all(True)
    assert len(report) > 1
    return [row[0] for row in report[1:] if on_host(row[0])]


def test_what_transposes_is_noticed():
    x = jt.random((2, 3, 4))
    bad = lambda: x.permute(0, 2, 1), lambda: x.argmax(dim=1)[0], lambda: x.argsort(dim=0)[0]
    assert [len(run_on_host(lambda work=work: work().sync())) for work in bad] == [1, 1, 1]
    good = lambda: x.permute(1, 0, 2), lambda: x.argmax(dim=2)[0], lambda: x.argsort(dim=2)[0]
    assert [run_on_host(lambda work=work: work().sync()) for work in good] == [[], [], []]


@pytest.mark.parametrize(("family", "kernels"), [*((family, True) for family in FAMILIES), ("van", False)])
def test_training_and_prediction_stay_on_the_gpu(family, kernels, tmp_path, monkeypatch):
    replace_code(monkeypatch, zeros)
    reader = ShardReader([tiny.shard(tmp_path / "s.h5", range(4))])
    settings = tiny.settings(**FAMILIES[family])
    trainer = Trainer(settings, len(tiny.CLASSES))
    protocol = Protocol.checked(scales=[1.0, 1.5], flip=True, window=40)

    def work():
        batches = Batches(reader, settings.data, seed=0, first_step=0, steps=1, workers=0)
        with closing(iter(batches)) as loaded:
            trainer.step(*next(loaded))
        for predictor in (Predictor(trainer.model), Predictor(trainer.model, protocol)):
            predictor(tiny.draw(1)[0])

    with nullcontext() if kernels else kernel.without_kernels():
        assert run_on_host(work) == []
