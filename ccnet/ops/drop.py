"""Dropout: what is dropped is drawn by NumPy and comes to the network as data.

So it depends on a seed alone, which whoever trains chooses anew for each step, and not on how much Jittor's generator
has drawn before, here or on a GPU.
"""

import numpy as np

from ccnet.runtime import jt, nn


class Drop(nn.Module):
    """While training, drops parts of `(B, C, H, W)` with probability `rate` and scales the others by 1 / (1 - rate).

    `generator` draws which; `axes` are how many of the leading axes tell the parts.
    """

    axes: int

    def __init__(self, rate: float):
        self.rate = rate
        self.generator = np.random.default_rng(0)

    def execute(self, x: jt.Var) -> jt.Var:
        if not self.is_training() or self.rate == 0:
            return x
        shape = [*x.shape[: self.axes], *[1] * (x.ndim - self.axes)]
        kept = self.generator.random(shape) >= self.rate
        return x * jt.array((kept / (1 - self.rate)).astype(np.float32)).broadcast(x.shape)


class Dropout2d(Drop):
    """Drops whole channels."""

    axes = 2


class DropPath(Drop):
    """Stochastic depth: drops a sample's whole branch."""

    axes = 1
