"""Dropout and stochastic depth with masks drawn by NumPy and passed to the network as data.

The masks thus depend only on a seed, which training sets anew for each step. They do not depend on what Jittor's
generator has drawn before, nor on the device, nor on the number of devices that share a batch.
"""

import numpy as np

from ccnet import parallel
from ccnet.runtime import jt, nn


class Drop(nn.Module):
    """In training, sets parts of `(B, C, H, W)` to 0 with probability `rate` and scales the rest by 1 / (1 - rate).

    `generator` draws the mask. A part is one index of the leading `axes` axes.
    """

    axes: int

    def __init__(self, rate: float):
        self.rate = rate
        self.generator = np.random.default_rng(0)

    def execute(self, x: jt.Var) -> jt.Var:
        if not self.is_training() or self.rate == 0:
            return x
        own = len(x) * parallel.RANK
        shape = [len(x) * parallel.RANKS, *x.shape[1 : self.axes], *[1] * (x.ndim - self.axes)]
        kept = self.generator.random(shape)[own : own + len(x)] >= self.rate
        return x * jt.array((kept / (1 - self.rate)).astype(np.float32)).broadcast(x.shape)


class Dropout2d(Drop):
    """Drops whole channels of a sample."""

    axes = 2


class DropPath(Drop):
    """Stochastic depth: drops a sample's whole branch."""

    axes = 1
