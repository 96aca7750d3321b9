import numpy as np
import pytest

from ccnet import InputError, weights
from ccnet.data.shards import ShardReader
from ccnet.ops.metrics import ConfusionMatrix
from ccnet.predictor import Predictor
from ccnet.training.validation import Validation
from tests import tiny


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    return ShardReader([tiny.shard(tmp_path_factory.mktemp("val") / "val.h5", range(20, 31), split="val")])


def never() -> bool:
    return False


def test_all_images_are_measured_as_evaluate_does(trained, reader):
    model = weights.load(trained.weights).model
    confusion, predictor = ConfusionMatrix(len(tiny.CLASSES)), Predictor(model)
    for image, label in reader:
        confusion.update(predictor(image), label)
    found = Validation(reader, tiny.settings(validate_every=1)).measure(model, never)
    assert found is not None
    assert found.mean_iou == confusion.mean_iou()
    assert [picture.name for picture in found.pictures] == reader.names[:3]
    np.testing.assert_array_equal(found.pictures[1].prediction, predictor(reader[1][0]))


@pytest.mark.parametrize(("count", "positions"), [(1, [0]), (2, [0, 10]), (3, [0, 5, 10]), (99, list(range(11)))])
def test_the_images_are_evenly_spaced(reader, count, positions):
    assert Validation(reader, tiny.settings(validate_every=1, validate_images=count)).positions == positions


def test_images_are_resized_as_in_training(reader):
    assert Validation(reader, tiny.settings(validate_every=1, resize=[96, 64])).protocol.keep_ratio == (96, 64)


def test_a_val_image_that_memory_does_not_suffice_for_is_named(trained, reader, monkeypatch):
    def overflow(self, image):
        raise RuntimeError("Reason: GPU memory is overflow, please reduce your batch_size")

    monkeypatch.setattr(Predictor, "__call__", overflow)
    message = r"^drawn 20 of val, 48 × 40: out of memory \(GPU memory is overflow.*\): lower resize, or dataset"
    with pytest.raises(InputError, match=message):
        Validation(reader, tiny.settings(validate_every=1)).measure(weights.load(trained.weights).model, never)


def test_an_interruption_ends_it(trained, reader):
    model, asked = weights.load(trained.weights).model, iter([False, False, True])
    assert Validation(reader, tiny.settings(validate_every=1)).measure(model, lambda: next(asked)) is None
