"""Metrics of semantic segmentation from one confusion matrix over the whole split, in NumPy."""

import numpy as np

from ccnet import InputError


class ConfusionMatrix:
    """Pixel counts with truth in rows and prediction in columns; pixels labelled `ignore` are not counted.

    Attributes: `counts` `(num_classes, num_classes)` int64.
    """

    def __init__(self, num_classes: int, ignore: int = 255):
        self.num_classes, self.ignore = num_classes, ignore
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add integer maps of equal shape with values 0 … num_classes - 1; labels may also be `ignore`.

        Raises InputError for different shapes or values out of range.
        """
        prediction, label = np.asarray(prediction), np.asarray(label)
        if prediction.shape != label.shape:
            raise InputError(f"prediction of shape {prediction.shape} for a label of shape {label.shape}")
        counted = label != self.ignore
        truth, guess = label[counted].astype(np.int64), prediction[counted].astype(np.int64)
        for name, values in (("label", truth), ("prediction", guess)):
            if values.size and not (values.min() >= 0 and values.max() < self.num_classes):
                raise InputError(
                    f"{name} has a value outside 0 … {self.num_classes - 1}: {values.min()} … {values.max()}"
                )
        joint = np.bincount(truth * self.num_classes + guess, minlength=self.num_classes**2)
        self.counts += joint.reshape(self.counts.shape)

    def iou_per_class(self) -> np.ndarray:
        """Intersection over union `(num_classes,)` float64; NaN for a class in neither truth nor prediction."""
        hits = np.diag(self.counts)
        return _ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur in truth or prediction; NaN if none does."""
        return _mean(self.iou_per_class())

    def pixel_accuracy(self) -> float:
        """Share of counted pixels that are correct; NaN if none is counted."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))

    def mean_accuracy(self) -> float:
        """Mean over the classes in the truth of their share of correct pixels; NaN if there are none."""
        return _mean(_ratio(np.diag(self.counts), self.counts.sum(1)))


def _ratio(part, whole) -> np.ndarray:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
