"""The class of each pixel, which has the largest score, and its probability."""

from ccnet.ops import kernel
from ccnet.runtime import jt

SIZES = 'in0_shape0, in0_shape1 * in0_shape2, data["views"]'
LABELS = f"argmax::forward(in0_p, out0_p, nullptr, {SIZES});"
BOTH = f"argmax::forward(in0_p, out0_p, out1_p, {SIZES});"


def argmax(scores: jt.Var) -> jt.Var:
    """The index over C of the largest of scores `(C, H, W)`, `(H, W)` uint8; the first one wins a tie."""
    if kernel.available("argmax", scores):
        return kernel.launch("argmax", LABELS, [scores.shape[1:]], ["uint8"], [scores], {"views": 1})[0]
    return _largest(scores)[0]


def with_probability(scores: jt.Var, views: int = 1) -> tuple[jt.Var, jt.Var]:
    """`argmax` and 255 times the probability of that class, both `(H, W)` uint8.

    Scores `(C, H, W)` are logits or, with several views, sums of their probabilities.
    """
    if kernel.available("argmax", scores):
        shapes, types = [scores.shape[1:]] * 2, ["uint8"] * 2
        labels, probability = kernel.launch("argmax", BOTH, shapes, types, [scores], {"views": views})
        return labels, probability
    labels, largest = _largest(scores)
    share = largest / views if views > 1 else 1 / (scores - largest).exp().sum(dim=0)
    return labels, (255 * share + 0.5).uint8().reshape(labels.shape)


def _largest(scores: jt.Var) -> tuple[jt.Var, jt.Var]:
    """`argmax`, and the maximum `(1, H, W)`.

    On CUDA Jittor's own argmax over any axis but the last copies the scores to the host to transpose them.
    """
    scores.sync()  # otherwise Jittor may compute them twice, with different rounding, so that none equals the maximum
    last = scores.shape[0] - 1
    numbers = jt.arange(last + 1).reshape(-1, 1, 1)
    largest = scores.max(dim=0, keepdims=True)
    return jt.ternary(scores == largest, numbers, last).min(dim=0).uint8(), largest
