import numpy as np
import pytest

from ccnet.mistakes import AREAS, Mistakes, most_confused


def test_the_largest_shares_of_a_class_come_first():
    counts = np.array([[90, 10, 0], [30, 60, 10], [0, 0, 0]])  # of 100 pixels each; class 2 never occurs
    assert most_confused(counts, 2) == [(1, 0, 0.3), (0, 1, 0.1)]
    assert most_confused(np.eye(3), 5) == []


def test_a_pair_names_the_images_with_most_of_its_pixels():
    mistakes = Mistakes(2)
    for image, wrong in enumerate([3, 0, 9, 5, 5, 1]):
        mistakes.add(image, np.array([[10 - wrong, wrong], [0, 4]]))
    assert mistakes.most_confused(4) == [(0, 1, [2, 3, 4])]
    np.testing.assert_array_equal(mistakes.total, [[37, 23], [0, 24]])


def test_images_without_the_confusion_are_not_named():
    mistakes = Mistakes(3)
    mistakes.add(0, np.diag([5, 5, 5]))
    mistakes.add(1, np.array([[5, 0, 0], [0, 4, 1], [0, 0, 5]]))
    assert mistakes.most_confused(4) == [(1, 2, [1])]


def test_iou_is_counted_where_a_class_has_its_area():
    mistakes = Mistakes(3)
    mistakes.add(0, np.array([[980, 5, 0], [5, 10, 0], [0, 0, 0]]))  # 98.5 % and 1.5 %
    mistakes.add(1, np.array([[980, 0, 5], [15, 0, 0], [0, 0, 0]]))  # class 2 is predicted, but not there
    assert mistakes.by_area() == [
        {"area": 0.03, "intersection": 10, "union": 20 + 15, "classes": 2},
        {"area": 1.0, "intersection": 980 + 980, "union": 990 + 1000, "classes": 2},
    ]


@pytest.mark.parametrize("counts", [np.zeros((2, 2), int), np.array([[0, 0], [0, 7]])])
def test_nothing_is_an_area_or_all_is(counts):
    mistakes = Mistakes(2)
    mistakes.add(0, counts)
    assert [each["area"] for each in mistakes.by_area()] == [AREAS[-1]] * bool(counts.any())
