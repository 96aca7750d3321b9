"""Batch normalisation with a variance that stays accurate for a large mean and PyTorch's running statistics.

On several devices the statistics are those of the whole batch, of which every device has an equal part.
"""

from ccnet import parallel
from ccnet.ops import kernel
from ccnet.runtime import jt

SIZES = """
    const batch_norm::Sizes sizes = {in0_shape0, in0_shape1, in0_shape2 * in0_shape3, (int64_t)data["processes"]};"""
INPUT = f"""{SIZES}
    const batch_norm::Input input = {{in0_p, in1_p, in2_p, RESIDUAL, data["eps"], (float)data["slope"]}};
    const batch_norm::Output output = {{out0_p, out1_p, out2_p, out3_p}};"""
FORWARD = f"{INPUT} batch_norm::forward(sizes, input, output);"
TOTALS = f"{SIZES} batch_norm::totals(sizes, in0_p, out0_p);"
SQUARES = f"{SIZES} batch_norm::squares(sizes, in0_p, in1_p, out0_p);"
NORMALISE = f"{INPUT} batch_norm::normalise(sizes, input, in3_p, in4_p, output);"
SAVED = f"""{SIZES}
    const batch_norm::Saved saved = {{in0_p, in1_p, in2_p, in3_p, in4_p, (float)data["slope"]}};"""
GRADIENTS = "const batch_norm::Gradients gradients = {out0_p, out1_p, out2_p, RESIDUAL};"
BACKWARD = f"{SAVED} {GRADIENTS} batch_norm::backward(sizes, saved, in5_p, gradients);"
SUMS = f"{SAVED} batch_norm::sums(sizes, saved, in5_p, out0_p);"
SPREAD = f"{SAVED} {GRADIENTS} batch_norm::backward(sizes, saved, in5_p, in6_p, in7_p, gradients);"


class _BatchNorm(jt.Function):
    """Normalisation by batch statistics, + residual, leaky ReLU; sets `mean` and (biased) `variance`, each (C)."""

    def __init__(self, eps: float, slope: float):
        self.data = {"eps": eps, "slope": slope, "processes": parallel.RANKS}

    def execute(self, x: jt.Var, weight: jt.Var, bias: jt.Var, residual: jt.Var | None) -> jt.Var:
        inputs = [x, weight, bias] if residual is None else [x, weight, bias, residual]
        y, self.mean, self.variance, inverse = self._forward([x.shape, *[weight.shape] * 3], inputs)
        decided = x if self.data["slope"] == 1 else y  # its sign selects the slope in backward; unused for slope 1
        self.saved, self.added = (x, weight, self.mean, inverse, decided), residual is not None
        return y

    def grad(self, dy: jt.Var) -> tuple[jt.Var | None, ...]:
        x, weight = self.saved[:2]
        shapes = [x.shape, weight.shape, weight.shape, *[x.shape] * self.added]
        return (*self._backward(shapes, [*self.saved, dy]), *[None] * (not self.added))

    def _forward(self, shapes: list, inputs: list[jt.Var]) -> tuple[jt.Var, ...]:
        def call(statement: str, place: int) -> str:
            return statement.replace("RESIDUAL", "nullptr" if len(inputs) == 3 else f"in{place}_p")

        if parallel.RANKS == 1:
            return self._launch(call(FORWARD, 3), shapes, inputs)
        x, size = inputs[0], shapes[1]
        totals = parallel.summed(*self._launch(TOTALS, [size], [x], "float64"))
        squares = parallel.summed(*self._launch(SQUARES, [size], [x, totals], "float64"))
        return self._launch(call(NORMALISE, 5), shapes, [*inputs[:3], totals, squares, *inputs[3:]])

    def _backward(self, shapes: list, inputs: list[jt.Var]) -> tuple[jt.Var, ...]:
        residual = "out3_p" if self.added else "nullptr"
        if parallel.RANKS == 1:
            return self._launch(BACKWARD.replace("RESIDUAL", residual), shapes, inputs)
        (own,) = self._launch(SUMS, [(*shapes[1], 2)], inputs, "float64")
        return self._launch(SPREAD.replace("RESIDUAL", residual), shapes, [*inputs, own, parallel.summed(own)])

    def _launch(self, call: str, shapes: list, inputs: list[jt.Var], dtype: str = "float32") -> tuple[jt.Var, ...]:
        return kernel.launch("batch_norm", call, shapes, [dtype] * len(shapes), inputs, self.data)


def _plain(x: jt.Var, weight: jt.Var, bias: jt.Var, eps: float) -> tuple[jt.Var, jt.Var, jt.Var]:
    """(y, mean, variance) in plain Jittor. The mean of x - mean corrects the rounding of the first mean."""
    mean = _mean(x)
    mean = mean + _mean(x - mean)
    centred = x - mean
    variance = _mean(centred * centred)
    scale = weight.reshape(1, -1, 1, 1) / jt.sqrt(variance + eps)
    return centred * scale + bias.reshape(1, -1, 1, 1), mean.reshape(-1), variance.reshape(-1)


def _mean(x: jt.Var) -> jt.Var:
    """Means (1, C, 1, 1) over the images of all devices, which have equally many."""
    own = x.mean(dims=(0, 2, 3), keepdims=True)
    return own if parallel.RANKS == 1 else parallel.summed(own) / parallel.RANKS


def _finished(z: jt.Var, residual: jt.Var | None, slope: float) -> jt.Var:
    z = z if residual is None else z + residual
    return z if slope == 1 else jt.nn.relu(z) if slope == 0 else jt.nn.leaky_relu(z, slope)


class BatchNorm(jt.nn.Module):
    """x (B, C, H, W) float32 -> leaky ReLU of normalised x + `residual`, the same shape; `slope` 1 omits the ReLU.

    Uses batch statistics in training and running statistics otherwise; `frozen`, the running statistics in training
    too, without updating them. Parameters `weight`, `bias` (C); buffers
    `running_mean`, `running_var` (C), without gradient. As in PyTorch the batch is normalised with its biased variance,
    and the running variance is unbiased.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1):
        self.eps = eps
        self.momentum = momentum
        self.frozen = False
        self.weight = jt.ones(channels)
        self.bias = jt.zeros(channels)
        self.running_mean = jt.zeros(channels).stop_grad()
        self.running_var = jt.ones(channels).stop_grad()

    def execute(self, x: jt.Var, residual: jt.Var | None = None, slope: float = 1.0) -> jt.Var:
        if self.frozen or not self.is_training():
            scale = self.weight / jt.sqrt(self.running_var + self.eps)
            shift = self.bias - self.running_mean * scale
            return _finished(x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1), residual, slope)
        if kernel.available("batch_norm", x, self.weight):
            function = _BatchNorm(self.eps, slope)
            y, mean, variance = function(x, self.weight, self.bias, residual), function.mean, function.variance
        else:
            y, mean, variance = _plain(x, self.weight, self.bias, self.eps)
            y = _finished(y, residual, slope)
        self._update(mean.stop_grad(), variance.stop_grad(), parallel.RANKS * x.shape[0] * x.shape[2] * x.shape[3])
        return y

    def constants(self) -> list[jt.Var]:
        """Weight, bias, running mean and variance, each (C), in the order of the C++ struct Norm (eval mode)."""
        return [self.weight, self.bias, self.running_mean, self.running_var]

    def _update(self, mean: jt.Var, variance: jt.Var, count: int) -> None:
        unbiased = variance * (count / max(count - 1, 1))
        for running, new in [(self.running_mean, mean), (self.running_var, unbiased)]:
            running.update(running + self.momentum * (new - running))
