"""Networks and losses together: what is optimised falls."""

import numpy as np
import pytest

from ccnet.models import EMBEDDING, build_from_settings
from ccnet.ops.losses import category_consistent
from ccnet.ops.normalise import normalise
from ccnet.runtime import jt
from ccnet.training.trainer import Trainer
from tests import tiny


def batch() -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*(tiny.draw(seed, 64, 64) for seed in range(4)), strict=True)
    return np.stack(images).transpose(0, 3, 1, 2).copy(), np.stack(labels)


@pytest.mark.parametrize("changes", [{"category_consistency": 1.0}, {"loss": "ohem"}], ids=str)
def test_the_loss_of_a_repeated_batch_falls(changes):
    trainer = Trainer(tiny.settings(**changes, dropout=0.0, drop_path=0.0, steps=60), len(tiny.CLASSES))
    images, labels = batch()
    losses = [trainer.step(images, labels) for _ in range(20)]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_the_category_consistent_loss_itself_falls():
    settings = tiny.settings(category_consistency=1.0, dropout=0.0, drop_path=0.0, steps=60)
    trainer = Trainer(settings, len(tiny.CLASSES))
    images, labels = batch()

    def consistency() -> float:
        return category_consistent(trainer.model(normalise(jt.array(images)))[2], jt.array(labels)).item()

    before = consistency()
    for _ in range(20):
        trainer.step(images, labels)
    assert consistency() < 0.7 * before


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_an_embedding_exists_where_its_loss_does(weight):
    model = build_from_settings(tiny.settings(category_consistency=weight), 4)
    model.train()
    outputs = model(jt.zeros((1, 3, 32, 32)))
    assert [tuple(output.shape) for output in outputs[2:]] == ([(1, EMBEDDING, 4, 4)] if weight else [])
    model.eval()
    assert tuple(model(jt.zeros((1, 3, 32, 32))).shape) == (1, 4, 32, 32)
