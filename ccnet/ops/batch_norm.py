"""Batch normalisation whose variance survives a large mean, with PyTorch's running statistics."""

from ccnet.ops import kernel
from ccnet.runtime import jt

SIZES = "{in0_shape0, in0_shape1, in0_shape2 * in0_shape3}"
FORWARD = f"""
    batch_norm::forward({SIZES}, in0_p, in1_p, in2_p, data["eps"], out0_p, out1_p, out2_p, out3_p);"""
BACKWARD = f"""
    batch_norm::backward({SIZES}, in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, out1_p, out2_p);"""


class _BatchNorm(jt.Function):
    """Normalisation by the batch; leaves its `mean` and (biased) `variance`, each (C)."""

    def __init__(self, eps: float):
        self.eps = eps

    def execute(self, x: jt.Var, weight: jt.Var, bias: jt.Var) -> jt.Var:
        shapes = [x.shape, *[weight.shape] * 3]
        y, self.mean, self.variance, inverse = kernel.launch(
            "batch_norm", FORWARD, shapes, ["float32"] * 4, [x, weight, bias], {"eps": self.eps}
        )
        self.saved = x, weight, self.mean, inverse
        return y

    def grad(self, dy: jt.Var) -> tuple[jt.Var, ...]:
        x, weight = self.saved[:2]
        shapes = [x.shape, weight.shape, weight.shape]
        return kernel.launch("batch_norm", BACKWARD, shapes, ["float32"] * 3, [*self.saved, dy])


def _plain(x: jt.Var, weight: jt.Var, bias: jt.Var, eps: float) -> tuple[jt.Var, jt.Var, jt.Var]:
    """(y, mean, variance) in plain Jittor. The mean is taken twice: of x, then of what its rounding left."""
    mean = x.mean(dims=(0, 2, 3), keepdims=True)
    mean = mean + (x - mean).mean(dims=(0, 2, 3), keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(dims=(0, 2, 3), keepdims=True)
    scale = weight.reshape(1, -1, 1, 1) / jt.sqrt(variance + eps)
    return centred * scale + bias.reshape(1, -1, 1, 1), mean.reshape(-1), variance.reshape(-1)


class BatchNorm(jt.nn.Module):
    """x (B, C, H, W) -> the same shape; by the batch when training, by the running statistics else.

    Parameters `weight`, `bias` (C); buffers `running_mean`, `running_var` (C), which have no gradient. As in PyTorch
    the batch is normalised with its biased variance, and the running variance is unbiased.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1):
        self.eps = eps
        self.momentum = momentum
        self.weight = jt.ones(channels)
        self.bias = jt.zeros(channels)
        self.running_mean = jt.zeros(channels).stop_grad()
        self.running_var = jt.ones(channels).stop_grad()

    def execute(self, x: jt.Var) -> jt.Var:
        if not self.is_training():
            scale, shift = self.affine()
            return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)
        if kernel.applies("batch_norm", x, self.weight):
            function = _BatchNorm(self.eps)
            y, mean, variance = function(x, self.weight, self.bias), function.mean, function.variance
        else:
            y, mean, variance = _plain(x, self.weight, self.bias, self.eps)
        self._update(mean.stop_grad(), variance.stop_grad(), x.shape[0] * x.shape[2] * x.shape[3])
        return y

    def affine(self) -> tuple[jt.Var, jt.Var]:
        """Scale and shift, each (C), that the norm is in eval mode."""
        scale = self.weight / jt.sqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def _update(self, mean: jt.Var, variance: jt.Var, count: int) -> None:
        unbiased = variance * (count / max(count - 1, 1))
        for running, new in [(self.running_mean, mean), (self.running_var, unbiased)]:
            running.update(running + self.momentum * (new - running))
