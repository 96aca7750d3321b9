"""What a training minimises: the losses of a network's outputs, and the parts in which a batch is taken."""

from collections.abc import Iterator

import numpy as np

from ccnet import parallel
from ccnet.ops.losses import category_consistent, cross_entropy, ohem, pixel_weights
from ccnet.runtime import jt
from ccnet.settings import Loss

Part = tuple[np.ndarray, np.ndarray, float]  # images, labels, share


class Objective:
    """`objective(outputs, labels)`: the loss of what a network returns in training, a scalar.

    `class_weights` (C) weigh the pixels of the main and the auxiliary loss; None: all alike.
    """

    def __init__(self, settings: Loss, class_weights: np.ndarray | None = None):
        self.settings, self.class_weights = settings, class_weights

    def __call__(self, outputs: tuple[jt.Var, ...], labels: jt.Var) -> jt.Var:
        settings = self.settings
        logits, auxiliary, *embedding = outputs
        loss = self._main(logits, labels)
        if settings.auxiliary_weight:
            loss = loss + settings.auxiliary_weight * cross_entropy(auxiliary, labels, self.class_weights)
        if settings.category_consistency:
            loss = loss + settings.category_consistency * category_consistent(embedding[0], labels)
        return loss

    def _main(self, logits: jt.Var, labels: jt.Var) -> jt.Var:
        if self.settings.name == "ohem":
            threshold, keep = self.settings.ohem_threshold, self.settings.ohem_keep
            return ohem(logits, labels, self.class_weights, threshold=threshold, keep=keep)
        return cross_entropy(logits, labels, self.class_weights)

    def parts(self, images: np.ndarray, labels: np.ndarray, count: int) -> Iterator[Part]:
        """Split a batch into `count` equal parts; yield each with its share of the weights of all labelled pixels.

        On several devices these are the pixels of all of them, and the batch is this device's share.

        Cross entropy is a mean over labelled pixels, so the parts' losses times their shares sum to the batch's loss.
        OHEM and the category consistent loss see each device's part alone.
        """
        if count == parallel.RANKS == 1:
            yield images, labels, 1.0
            return
        size = len(images) // count
        counted = pixel_weights(labels, self.class_weights).reshape(count, -1).sum(axis=1, dtype=np.float64)
        of_all = parallel.total(counted).sum() or 1
        for number, weight in enumerate(counted):
            part = slice(number * size, (number + 1) * size)
            yield images[part], labels[part], float(weight / of_all)
