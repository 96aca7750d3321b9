"""Prediction: `Predictor` maps an image to a label map under a protocol, for evaluation and segmentation alike.

Everything after the network runs on strips of rows. With sliding windows memory therefore does not grow with the
image's height, and at the label map's resolution only one strip of scores exists at a time.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ccnet.data.images import resized
from ccnet.models.ccnet import SMALLEST
from ccnet.ops.argmax import argmax, with_probability
from ccnet.ops.normalise import normalise
from ccnet.ops.resize import resize_rows, source_rows
from ccnet.ops.sliding_window import window_weights
from ccnet.protocol import Protocol, Size
from ccnet.runtime import jt, nn

STRIP = 2**17  # maximum pixels of the label map per strip
PIECE = 128  # maximum rows per band of logits from sliding windows


def network_input(model, image: np.ndarray) -> jt.Var:
    """The normalised input `(1, 3, H, W)` float32 that `model` takes of an image `(H, W, 3)` uint8.

    Sides below SMALLEST are padded with the edge pixels, at the bottom and the right.
    """
    margin = [(0, max(0, SMALLEST - side)) for side in image.shape[:2]]
    padded = np.pad(image, (*margin, (0, 0)), mode="edge")
    pixels = jt.array(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
    return normalise(pixels, model.mean, model.std)


class Predictor:
    """`predictor(image)`: image `(H, W, 3)` uint8 RGB of any size -> train ids `(H, W)` uint8.

    With `size` (height, width) the label map has that size instead: the logits are resized to it bilinearly. Without
    `protocol` it uses the default `Protocol()`. The constructor sets the model to eval mode.
    """

    def __init__(self, model, protocol: Protocol | None = None):
        self.model, self.protocol = model, protocol or Protocol()
        model.eval()

    def __call__(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        return np.concatenate([argmax(scores).numpy() for scores in self._strips(image, size)])

    def with_confidence(
        self, image: np.ndarray, each: Callable[[np.ndarray], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The label map and 255 times the probability of each pixel's class, both `(H, W)` uint8.

        `each` is called with the probabilities of each strip of rows, `(C, k, W)` float32, from top to bottom.
        """
        found = []
        for scores in self._strips(image):
            found.append([part.numpy() for part in with_probability(scores, self.views)])
            if each:
                each((nn.softmax(scores, dim=0) if self.views == 1 else scores / self.views).numpy())
        labels, confidence = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return labels, confidence

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """The probability of each class at each pixel, `(C, H, W)` float32."""
        strips: list[np.ndarray] = []
        self.with_confidence(image, strips.append)
        return np.concatenate(strips, axis=1)

    @property
    def views(self) -> int:
        """The number of times that the network looks at an image."""
        return len(self.protocol.scales) * (1 + self.protocol.flip)

    def _strips(self, image: np.ndarray, size: Size | None = None) -> Iterator[jt.Var]:
        """Scores `(C, k, W)` from top to bottom: logits or, with several views, sums of their probabilities."""
        height, width = size or image.shape[:2]
        rows = max(1, STRIP // width)
        views = list(self._views(image, (height, width)))
        for top in range(0, height, rows):
            with jt.no_grad():
                strips = [view.strip(top, min(top + rows, height)) for view in views]
                scores = strips[0] if len(strips) == 1 else sum(nn.softmax(strip, dim=0) for strip in strips)
            yield scores

    def _views(self, image: np.ndarray, size: Size) -> Iterator["_View"]:
        """One view per scale of the protocol and, with its `flip`, one mirrored view per scale."""
        for scale in self.protocol.scales:
            scaled = resized(image, self.protocol.size(image.shape[:2], scale))
            yield _View(self._bands(scaled), scaled.shape[:2], size, False, self.model.align_corners)
            if self.protocol.flip:
                yield _View(self._bands(scaled[:, ::-1]), scaled.shape[:2], size, True, self.model.align_corners)

    def _bands(self, image: np.ndarray) -> Iterator[jt.Var]:
        """Bands of logits `(C, k, W)` from top to bottom, each yielded once no further window overlaps its rows."""
        height, width = image.shape[:2]
        window = self.protocol.window
        if window is None or max(height, width) <= window:
            yield self._logits(image)
            return
        down, across = (window_weights(side, window, self.protocol.step) for side in (height, width))
        ends = [*(top for top, _ in down[1:]), height]  # row at which each row of windows is complete
        canvas: np.ndarray | None = None
        for (top, share), end in zip(down, ends, strict=True):
            for left, part in across:
                logits = self._logits(image[top : top + len(share), left : left + len(part)])
                if canvas is None:
                    canvas = np.zeros((logits.shape[0], len(share), width), np.float32)
                weights = share[:, None] * part
                for plane, values in zip(canvas, logits.data, strict=True):
                    values *= weights  # in place, as nothing else reads them: new arrays cost page faults
                    plane[:, left : left + len(part)] += values
            assert canvas is not None
            yield from _taken(canvas, end - top)

    def _logits(self, image: np.ndarray) -> jt.Var:
        """Logits `(C, H, W)` of an image `(H, W, 3)` uint8."""
        height, width = image.shape[:2]
        return self.model(network_input(self.model, image))[0, :, :height, :width]


class _View:
    """Logits of one view of an image, read from top to bottom; keeps only the rows that later strips may need."""

    def __init__(self, bands: Iterator[jt.Var], before: Size, after: Size, mirrored: bool, align_corners: bool):
        self.bands, self.width, self.mirrored, self.align_corners = bands, after[1], mirrored, align_corners
        self.sources = source_rows(before[0], after[0], align_corners)
        self.held: jt.Var | None = None
        self.end = 0  # the row after the last one held

    def strip(self, first: int, last: int) -> jt.Var:
        """Logits `(C, last - first, W)` of the label map's rows; call it with strips from top to bottom."""
        upper, lower, share = (part[first:last] for part in self.sources)
        rows = self._rows(int(upper[0]), int(lower[-1]) + 1)
        strip = resize_rows(rows, upper - upper[0], lower - upper[0], share, self.width, self.align_corners)
        return jt.flip(strip, 2) if self.mirrored else strip

    def _rows(self, first: int, last: int) -> jt.Var:
        while self.end < last:
            band, kept = next(self.bands), self.end - first
            self.end += band.shape[1]
            if self.held is not None and kept > 0:
                band = jt.concat([self.held[:, self.held.shape[1] - kept :], band], dim=1)
            self.held = band
        assert self.held is not None
        start = self.end - self.held.shape[1]
        return self.held[:, first - start : last - start]


def _taken(canvas: np.ndarray, count: int) -> Iterator[jt.Var]:
    """Yield the first `count` rows of a canvas `(C, K, W)` in pieces, then shift the rest up and append rows of 0."""
    for first in range(0, count, PIECE):
        yield jt.array(canvas[:, first : min(first + PIECE, count)])
    for plane in canvas:  # plane by plane: NumPy copies overlapping rows through a temporary buffer
        plane[: len(plane) - count] = plane[count:]
        plane[len(plane) - count :] = 0
