"""What a network gets wrong, collected image by image: which classes it confuses and where, and how small they are."""

from typing import Any

import numpy as np

IMAGES = 3  # that are remembered for each pair of classes
AREAS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # upper bounds of a class's share of an image's pixels


class Mistakes:
    """Collects the confusion matrices `(C, C)` of single images: counts of pixels, rows truth, columns prediction."""

    def __init__(self, num_classes: int):
        shape = IMAGES, num_classes, num_classes
        self.counts, self.images = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.total = np.zeros(shape[1:], np.int64)
        self.areas = np.zeros((3, len(AREAS)), np.int64)  # intersection, union, and number of classes in images

    def add(self, image: int, counts: np.ndarray) -> None:
        """Add the matrix of the image of this number."""
        self.total += counts
        every = np.concatenate([self.counts, counts[None]])
        order = np.argsort(-every, axis=0, kind="stable")[:IMAGES]
        self.counts = np.take_along_axis(every, order, axis=0)
        numbers = np.concatenate([self.images, np.full_like(counts, image)[None]])
        self.images = np.take_along_axis(numbers, order, axis=0)
        hits, truth = np.diag(counts), counts.sum(axis=1)
        present = truth > 0
        bins = np.searchsorted(AREAS, truth[present] / max(1, truth.sum()))
        union = truth + counts.sum(axis=0) - hits
        for row, values in zip(self.areas, (hits, union, present), strict=True):
            np.add.at(row, bins, values[present])

    def most_confused(self, count: int) -> list[tuple[int, int, list[int]]]:
        """Truth, prediction, and the images with most of these pixels, of the `count` largest confusions."""
        return [
            (truth, guess, self.images[self.counts[:, truth, guess] > 0, truth, guess].tolist())
            for truth, guess, _ in most_confused(self.total, count)
        ]

    def by_area(self) -> list[dict[str, Any]]:
        """IoU by the area of a class in an image: for each of AREAS that occurs, pixels of intersection and union.

        `classes` counts the classes in images, a class once in each. Pixels predicted as a class that the image does
        not have belong to no area.
        """
        return [
            {"area": area, "intersection": int(hits), "union": int(union), "classes": int(classes)}
            for area, (hits, union, classes) in zip(AREAS, self.areas.T, strict=True)
            if classes
        ]


def most_confused(counts: np.ndarray, count: int) -> list[tuple[int, int, float]]:
    """Truth, prediction, and share of the truth's pixels of the `count` largest confusions in a matrix `(C, C)`."""
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    wrong = np.nan_to_num(shares * (1 - np.eye(len(shares))))
    largest = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(cell), len(wrong)) for cell in largest]
    return [(truth, guess, float(wrong[truth, guess])) for truth, guess in pairs if wrong[truth, guess] > 0]
