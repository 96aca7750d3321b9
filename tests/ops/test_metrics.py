import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix, jaccard_score

from ccnet import InputError
from ccnet.ops.metrics import ConfusionMatrix

CLASSES = 5
maps = arrays(np.uint8, (6, 7), elements=st.integers(0, CLASSES - 1))
labels = arrays(np.uint8, (6, 7), elements=st.sampled_from([*range(CLASSES), 255]))


@given(maps, labels, maps, labels)
def test_equals_an_independent_computation(first, first_label, second, second_label):
    matrix = ConfusionMatrix(CLASSES)
    matrix.update(first, first_label)
    matrix.update(second, second_label)
    truth = np.concatenate([first_label.ravel(), second_label.ravel()])
    guess = np.concatenate([first.ravel(), second.ravel()])[truth != 255]
    truth = truth[truth != 255]
    if not truth.size:
        assert np.isnan(matrix.mean_iou())
        return
    np.testing.assert_array_equal(matrix.counts, confusion_matrix(truth, guess, labels=range(CLASSES)))
    present = np.union1d(truth, guess)
    expected = jaccard_score(truth, guess, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(matrix.iou_per_class()[present], expected, rtol=1e-12)
    assert np.isnan(np.delete(matrix.iou_per_class(), present)).all()
    assert matrix.mean_iou() == pytest.approx(expected.mean(), rel=1e-12)
    assert matrix.pixel_accuracy() == pytest.approx((truth == guess).mean(), rel=1e-12)
    recalls = [(guess[truth == c] == c).mean() for c in np.unique(truth)]
    assert matrix.mean_accuracy() == pytest.approx(np.mean(recalls), rel=1e-12)


def test_a_perfect_prediction_scores_one_and_absent_classes_do_not_count():
    matrix = ConfusionMatrix(4)
    matrix.update(np.array([[0, 1]]), np.array([[0, 1]]))
    assert (matrix.mean_iou(), matrix.pixel_accuracy(), matrix.mean_accuracy()) == (1.0, 1.0, 1.0)
    assert np.isnan(matrix.iou_per_class()[2:]).all()


@pytest.mark.parametrize(
    ("prediction", "label"), [([[4]], [[0]]), ([[0]], [[9]]), ([[0, 1]], [[0]])], ids=["prediction", "label", "shape"]
)
def test_values_out_of_range_are_refused(prediction, label):
    with pytest.raises(InputError):
        ConfusionMatrix(4).update(np.array(prediction), np.array(label))
