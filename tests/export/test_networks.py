import pytest
import torch

from ccnet.export.networks import CCNet, criss_cross_context
from ccnet.models import build


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "van_tiny"])
def test_defaults_are_those_of_build(name):
    ours, theirs = build(name, 7), CCNet(name, 7)
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in ours.state_dict().items()} == {
        key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")
    }
    assert theirs.fusion == ours.fusion


def test_with_equal_scores_a_pixel_gathers_the_mean_of_its_row_and_column():
    """Itself once, so of H + W - 1 values."""
    value = torch.randn(1, 5, 4, 6)
    found = criss_cross_context(torch.zeros(1, 2, 4, 6), torch.zeros(1, 2, 4, 6), value)
    expected = (value.sum(2, keepdim=True) + value.sum(3, keepdim=True) - value) / (4 + 6 - 1)
    torch.testing.assert_close(found, expected)


def test_other_auxiliary_channels_and_the_outputs_of_training():
    network = CCNet("resnet18", 3, 8, auxiliary_channels=24, embedding=5).train()
    logits, auxiliary, embedding = network(torch.zeros(2, 3, 40, 33))
    assert logits.shape == auxiliary.shape == (2, 3, 40, 33)
    assert embedding.shape[:2] == (2, 5)
    assert network.auxiliary["conv"].conv.out_channels == 24
