import numpy as np
import pytest
import torch

from ccnet.ops.losses import cross_entropy
from ccnet.runtime import jt
from ccnet.training.objective import Objective
from tests import tiny

WEIGHTS = np.array([0.5, 2.0, 1.0, 4.0])


def outputs(seed: int = 0, batch: int = 4) -> tuple[list[jt.Var], np.ndarray]:
    """Logits and auxiliary logits `(B, 4, 6, 5)`, and labels, a sixth of them ignored."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (batch, 6, 5)).astype(np.int32)
    labels[:, 0] = 255
    return [jt.array(rng.standard_normal((batch, 4, 6, 5)).astype(np.float32)) for _ in range(2)], labels


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_auxiliary_loss_is_added_with_its_weight(weights):
    (logits, auxiliary), labels = outputs()
    objective = Objective(tiny.settings(auxiliary_weight=0.3).loss, weights)
    parts = [cross_entropy(each, jt.array(labels), weights).item() for each in (logits, auxiliary)]
    assert objective((logits, auxiliary), jt.array(labels)).item() == pytest.approx(parts[0] + 0.3 * parts[1], rel=1e-6)


def test_class_weights_are_those_of_pytorch():
    (logits, _), labels = outputs()
    ours = Objective(tiny.settings(auxiliary_weight=0.0).loss, WEIGHTS)((logits, logits), jt.array(labels)).item()
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits.numpy()), torch.tensor(labels).long(), torch.tensor(WEIGHTS).float(), ignore_index=255
    )
    assert ours == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_parts_losses_times_their_shares_are_the_batchs_loss(weights):
    (logits, _), labels = outputs()
    labels[3] = 255
    objective = Objective(tiny.settings(auxiliary_weight=0.0).loss, weights)
    whole = objective((logits, logits), jt.array(labels)).item()
    numbered = np.arange(4)[:, None]  # stands in for images
    total = 0.0
    for images, own, share in objective.parts(numbered, labels, 2):
        part = logits[int(images[0, 0]) : int(images[-1, 0]) + 1]
        total += share * objective((part, part), jt.array(own)).item()
    assert total == pytest.approx(whole, rel=1e-5)


def test_a_batch_without_labels_has_no_share():
    labels = np.full((4, 2, 2), 255)
    assert [share for *_, share in Objective(tiny.settings().loss).parts(labels, labels, 2)] == [0, 0]
