import numpy as np
import pytest

from ccnet import InputError
from ccnet.attention import maps
from ccnet.data.images import resized
from ccnet.models import build
from ccnet.ops.resize import resize
from ccnet.predictor import network_input
from ccnet.projections import look, nearest, projections
from ccnet.runtime import jt
from tests import tiny
from tests.ops.helpers import assert_close


def network(recurrence: int, head: str = "rcca"):
    """An untrained network whose loops change the features: gamma is not 0."""
    model = build("van_tiny", 4, recurrence, head=head, head_channels=16)
    if recurrence:
        model.head.attention.gamma.assign(jt.array([0.7]))
    return model.eval()


@pytest.mark.parametrize("recurrence", [1, 2, 3])
def test_projections_are_those_of_each_loop(recurrence):
    model, (image, _) = network(recurrence), tiny.draw(1)
    model.train()
    query, key = projections(model, image)
    assert not model.is_training()
    assert query.dtype == key.dtype == np.float32
    with jt.no_grad():
        x = model.head.before(model.fused(model.backbone(network_input(model, image))))
        for loop in range(recurrence):
            for found, convolution in ((query, model.head.attention.query_conv), (key, model.head.attention.key_conv)):
                assert found.shape == (recurrence, 5, 6, 2)
                assert_close(found[loop], convolution(x).numpy()[0].transpose(1, 2, 0))
            x = model.head.attention(x)
    again, _ = projections(model, image)
    assert again.shape == query.shape  # no hook was left behind
    np.testing.assert_array_equal(again, query)


@pytest.mark.parametrize(("recurrence", "head"), [(0, "rcca"), (2, "non_local")])
def test_networks_without_crosses_are_refused(recurrence, head):
    with pytest.raises(InputError, match=r"^w\.safetensors: the network has no criss-cross attention"):
        projections(network(recurrence, head), tiny.draw(1)[0], "w.safetensors")


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("pixels", "positions"), [(48, 6), (45, 6), (33, 5), (7, 7), (32, 1)])
def test_the_nearest_position_has_the_largest_part_in_the_pixels_logits(pixels, positions, align_corners):
    one_hot = jt.array(np.eye(positions, dtype=np.float32)[None, :, :, None])  # a channel for each position
    parts = resize(one_hot, (pixels, 1), align_corners).numpy()[0, :, :, 0]
    chosen = nearest(pixels, positions, align_corners)
    np.testing.assert_allclose(parts[chosen, np.arange(pixels)], parts.max(axis=0), atol=1e-5)


def test_a_pixel_of_the_image_looks_where_its_position_does():
    model, (image, _) = network(2), tiny.draw(1, 96, 80)
    looked = look(model, image, (40, 48))
    query, key = projections(model, resized(image, (40, 48)))
    assert (len(looked.rows), len(looked.columns)) == (80, 96)
    np.testing.assert_array_equal(looked.maps(95, 0), maps(query, key, 0, query.shape[2] - 1))
