"""Losses: cross entropy, OHEM and category consistent loss. Labels are 0 … C - 1, or `ignore`."""

import numpy as np

from ccnet import InputError
from ccnet.ops import kernel
from ccnet.runtime import jt

SIZES = 'in0_shape0, in0_shape1, in0_shape2 * in0_shape3, data["ignore"]'
FORWARD = f"cross_entropy::forward(in0_p, in1_p, out0_p, out1_p, {SIZES});"
BACKWARD = f"cross_entropy::backward(in0_p, in1_p, in2_p, in3_p, out0_p, {SIZES});"


class _CrossEntropy(jt.Function):
    def __init__(self, ignore: int):
        self.data = {"ignore": ignore}

    def execute(self, logits: jt.Var, labels: jt.Var) -> jt.Var:
        shapes = [labels.shape, labels.shape]
        loss, normaliser = kernel.launch("cross_entropy", FORWARD, shapes, ["float32"] * 2, [logits, labels], self.data)
        self.saved = logits, labels, normaliser
        return loss

    def grad(self, dloss: jt.Var) -> tuple[jt.Var, None]:
        inputs = [*self.saved, dloss]
        return kernel.launch("cross_entropy", BACKWARD, [inputs[0].shape], ["float32"], inputs, self.data)[0], None


def check_labels(labels: jt.Var, logits: jt.Var, ignore: int) -> np.ndarray:
    """Check labels (B, H, W) against logits (B, C, H, W); returns the labels as an array.

    Raises InputError for a label that is neither a class nor `ignore`, ValueError for shapes that do not fit. Jittor
    itself silently ignores invalid labels. Labels come from the loader, so reading them triggers no computation.
    """
    batch, classes, *size = logits.shape
    if tuple(labels.shape) != (batch, *size):
        raise ValueError(f"labels {tuple(labels.shape)} do not fit logits {tuple(logits.shape)}")
    values = labels.numpy()
    bad = values[((values < 0) | (values >= classes)) & (values != ignore)]
    if bad.size:
        raise InputError(
            f"label {bad[0]} ({bad.size} pixels out of range): the network has {classes} classes, 0 … {classes - 1}, "
            f"and {ignore} is ignored; check the label table of the dataset"
        )
    return values


def _pixel_losses(logits: jt.Var, labels: jt.Var, ignore: int = 255) -> jt.Var:
    """-log softmax probability of each pixel's label (B, H, W); 0 where ignored. Expects checked labels."""
    if kernel.available("cross_entropy", logits):
        return _CrossEntropy(ignore)(logits, labels)
    shifted = logits - logits.max(dim=1, keepdims=True)
    of_label = (labels.unsqueeze(1) == jt.arange(logits.shape[1]).reshape(1, -1, 1, 1)).float32()
    losses = jt.log(jt.exp(shifted).sum(dim=1)) - (shifted * of_label).sum(dim=1)
    return jt.ternary(labels != ignore, losses, jt.zeros_like(losses))


def pixel_weights(labels: np.ndarray, weights: np.ndarray | None, ignore: int = 255) -> np.ndarray:
    """The weight of each label's class, of `weights` (C) or 1; 0 where ignored. float32, of the labels' shape."""
    if weights is None:
        return (labels != ignore).astype(np.float32)
    known = labels != ignore
    return np.where(known, weights[np.where(known, labels, 0)], 0).astype(np.float32)


def cross_entropy(logits: jt.Var, labels: jt.Var, weights: np.ndarray | None = None, ignore: int = 255) -> jt.Var:
    """Mean cross entropy over the pixels not ignored, of logits (B, C, H, W) float32 and labels (B, H, W) int.

    With class `weights` (C) it is the weighted mean, divided by the sum of the pixels' weights, as in PyTorch. Returns
    0 if all pixels are ignored. Raises InputError, at the call, for a label out of range.
    """
    values = check_labels(labels, logits, ignore)
    losses = _pixel_losses(logits, labels, ignore)
    if weights is None:
        return losses.sum() / max(np.count_nonzero(values != ignore), 1)
    shares = pixel_weights(values, weights, ignore)
    return (losses * jt.array(shares)).sum() / (float(shares.sum(dtype=np.float64)) or 1.0)


def ohem(
    logits: jt.Var,
    labels: jt.Var,
    weights: np.ndarray | None = None,
    *,
    threshold: float,
    keep: int,
    ignore: int = 255,
) -> jt.Var:
    """Online hard example mining: mean cross entropy over hard pixels, for logits (B, C, H, W) and labels (B, H, W).

    A pixel is hard if its label's probability is at most `threshold` or among the B · `keep` lowest of the batch. Class
    `weights` (C) weigh the mean, not the choice of pixels. Raises InputError for a label out of range.
    """
    values = check_labels(labels, logits, ignore)
    with jt.no_grad():
        probability = np.exp(-_pixel_losses(logits, labels, ignore).numpy())
    counted = values != ignore
    worst = min(keep * len(values), np.count_nonzero(counted))
    if worst:
        threshold = max(threshold, np.partition(probability[counted], worst - 1)[worst - 1])
    hard = counted & ~(probability > threshold)  # written as a negation so that NaN counts as hard and reaches the loss
    return cross_entropy(logits, jt.array(np.where(hard, values, ignore).astype(np.int32)), weights, ignore)


def category_consistent(
    features: jt.Var,
    labels: jt.Var,
    delta_v: float = 0.5,
    delta_d: float = 1.5,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 0.001,
    ignore: int = 255,
) -> jt.Var:
    """Category consistent loss (CCNet's TPAMI version) of features (B, C, H, W) and labels (B, H', W').

    α · l_var + β · l_dis + γ · l_reg: l_var pulls pixels to the mean feature of their class, l_dis pushes the means of
    different classes 2 δd apart, l_reg keeps the means small. Labels are subsampled to H × W. Returns 0 if all pixels
    are ignored.
    """
    channels, height, width = features.shape[1:]
    values = labels.numpy()
    rows, columns = (np.arange(n) * m // n for n, m in zip((height, width), values.shape[1:], strict=True))
    values = values[:, rows][:, :, columns]
    classes = np.setdiff1d(values, [ignore])
    if classes.size == 0:
        return (features * 0).sum()
    counted = np.nonzero(values != ignore)
    member = (values[counted][:, None] == classes).astype(np.float32)  # (N, K): pixel n is of class k
    share = jt.array((member / member.sum(axis=0)).T.copy())
    places = [jt.array(axis.astype(np.int32)) for axis in counted]
    # (N, C); gathered without a transpose, which runs on the host on CUDA
    pixels = features.reindex([member.shape[0], channels], ["@e0(i0)", "i1", "@e1(i0)", "@e2(i0)"], extras=places)
    means = jt.matmul(share, pixels)  # (K, C)
    distances = _norm(pixels - jt.matmul(jt.array(member), means))
    l_var = (_pull(distances, delta_v, delta_d) * share).sum() / classes.size
    l_reg = _norm(means).mean()
    l_dis = _push(means, delta_d)
    return alpha * l_var + beta * l_dis + gamma * l_reg


def _norm(vectors: jt.Var) -> jt.Var:
    # clamped to 1e-12: sqrt has no finite gradient at 0, which occurs for the only pixel of a class
    return jt.sqrt((vectors * vectors).sum(dim=-1).maximum(1e-12))


def _pull(distance: jt.Var, delta_v: float, delta_d: float) -> jt.Var:
    """φ_var: 0 up to δv, quadratic up to δd, linear beyond."""
    far = distance - delta_d + (delta_d - delta_v) ** 2
    near = (distance - delta_v).maximum(0.0) ** 2
    return jt.ternary(distance > delta_d, far, near)


def _push(means: jt.Var, delta_d: float) -> jt.Var:
    """Mean over ordered pairs of different classes of max(0, 2 δd - distance)²."""
    count = means.shape[0]
    if count == 1:
        return (means * 0).sum()
    first, second = np.nonzero(~np.eye(count, dtype=bool))
    distances = _norm(means[jt.array(first)] - means[jt.array(second)])
    return ((2 * delta_d - distances).maximum(0.0) ** 2).mean()
