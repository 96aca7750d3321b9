"""Evaluation protocols as frozen, validated data. Scores are comparable only under the same protocol.

The order of operations is mmsegmentation's: resize the image, predict, resize the logits to the size at which the
score is computed, average the softmax probabilities over all scales and flips, take the argmax. Two differences:
images are resized as in training (Pillow's bilinear, antialiased when shrinking), and windows have lower weights
towards their edges.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from ccnet import InputError
from ccnet.fields import about, explain, frozen

Side = Annotated[int, Field(ge=32, le=16384)]
Scale = Annotated[float, Field(gt=0, le=8)]
Size = tuple[int, ...]  # (height, width); of any length, since mypy types a slice of a shape so
SCORED = {"original": "the labels' own size", "resized": "labels resized alike (nearest)"}


def fit_factor(size: Size, sides: Sequence[int]) -> float:
    """The factor that fits an image of `size` (height, width) within a longer and a shorter side, `sides`."""
    return min(max(sides) / max(size), min(sides) / min(size))


@frozen
class Protocol:
    """An evaluation protocol. Defaults: the whole image at its own size, one scale, no flip."""

    keep_ratio: Annotated[
        tuple[Side, Side] | None, about("long and short side an image is scaled to fit, pixels, ratio kept")
    ] = None
    fixed: Annotated[tuple[Side, Side] | None, about("height and width an image is squashed to, pixels")] = None
    window: Annotated[Side | None, about("side of the sliding windows over the resized image; null: whole")] = None
    stride: Annotated[int | None, about("pixels between windows; null: two thirds of the window", ge=1)] = None
    scales: Annotated[
        tuple[Scale, ...],
        about("factors on the resized image; softmax probabilities are averaged", min_length=1, max_length=16),
    ] = (1.0,)
    flip: Annotated[bool, about("average with the mirrored image")] = False
    score_at: Annotated[
        Literal["original", "resized"],
        about("score at the labels' own size, or on labels resized like the image, nearest"),
    ] = "original"

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Validate fields. Raises InputError that names each invalid one, its value and what is allowed."""
        try:
            protocol = TypeAdapter(cls).validate_json(json.dumps(values))
        except ValidationError as error:
            raise InputError(f"protocol: {'; '.join(map(explain, error.errors()))}") from error
        if protocol.keep_ratio and protocol.fixed:
            raise InputError("protocol: keep_ratio and fixed: an image is resized by one of them: leave one out")
        if protocol.stride and not protocol.window:
            raise InputError(
                f"protocol: stride: {protocol.stride}: there is no window to move: name one, or leave it out"
            )
        if protocol.stride and protocol.window and protocol.stride > protocol.window:
            raise InputError(
                f"protocol: stride: {protocol.stride}: more than the window's {protocol.window} leaves gaps"
            )
        return protocol

    @classmethod
    def at_the_scale_of(cls, sizes: np.ndarray, resize: Sequence[int] | None = None) -> Self:
        """The protocol for images of any size, by a network trained on images of `sizes` (width, height), `(N, 2)`.

        Images are fitted within the sides that training fitted them within or, without, the median sides.
        """
        sides = resize or np.median(np.sort(sizes, axis=1), axis=0)
        short, long = sorted(int(side) for side in np.clip(sides, 32, 16384))
        return cls.checked(keep_ratio=(long, short))

    def as_dict(self) -> dict[str, Any]:
        """The fields in JSON's types."""
        fields = asdict(self)  # type: ignore[call-overload]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def changed(self, **values: Any) -> Self:
        """A protocol with other values. Raises InputError as `checked` does."""
        return self.checked(**self.as_dict() | values)

    @property
    def step(self) -> int:
        """Pixels between windows; 0 without windows."""
        return self.stride or math.ceil(2 * (self.window or 0) / 3)

    def size(self, before: Size, scale: float = 1.0) -> Size:
        """The (height, width) to which an image of size `before` is resized; rounds as mmsegmentation does."""
        height, width = before
        down = across = scale
        if self.keep_ratio:
            down = across = scale * fit_factor(before, self.keep_ratio)
        if self.fixed:
            down, across = scale * self.fixed[0] / height, scale * self.fixed[1] / width
        return max(1, int(height * down + 0.5)), max(1, int(width * across + 0.5))

    def record(self) -> dict[str, Any]:
        """The protocol's entries of metrics.json."""
        window = {"side": self.window, "stride": self.step, "weights": "falling linearly to the edges"}
        resize = f"keep_ratio {self.keep_ratio}" if self.keep_ratio else f"fixed {self.fixed}"
        return {
            "in_words": f"Images {self.in_words()}; scored {self._place()}.",
            "mode": "sliding" if self.window else "whole",
            "window": window if self.window else None,
            "resize": resize if self.keep_ratio or self.fixed else "original",
            "resampling": "bilinear, antialiased",
            "scales": list(self.scales),
            "flip": self.flip,
            "average_of": "softmax probabilities" if self.flip or len(self.scales) > 1 else None,
            "scored_at": SCORED[self.score_at],
        }

    def in_words(self) -> str:
        """What is done to images, in words that follow "images"."""
        resize = "at their own size"
        if self.keep_ratio:
            resize = f"resized to fit within {max(self.keep_ratio)} × {min(self.keep_ratio)}, aspect kept"
        elif self.fixed:
            resize = f"squashed to {self.fixed[0]} × {self.fixed[1]} (height × width)"
        view = f"windows of {self.window} pixels every {self.step}" if self.window else "whole"
        scales = ", ".join(f"{scale:g}" for scale in self.scales)
        scales = "one scale" if self.scales == (1.0,) else f"scale{'s' * (len(self.scales) > 1)} {scales}"
        flip = ", each also mirrored" * self.flip
        average = " (softmax probabilities averaged)" * (self.flip or len(self.scales) > 1)
        return f"{resize}, {view}, {scales}{flip}{average}"

    def _place(self) -> str:
        return ("at " if self.score_at == "original" else "on ") + SCORED[self.score_at]
