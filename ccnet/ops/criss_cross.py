"""Criss-cross attention (CCNet, arXiv:1811.11721, section 3.2): module, fused C++/CUDA operator, plain reference."""

from collections.abc import Callable

from ccnet.ops import kernel
from ccnet.runtime import jt

SLICE = 128  # channels aggregated at a time on the CPU: as fast as all at once, with less scratch memory

FORWARD = """
    criss_cross::forward(in0_shape0, {in0_shape1, (in1_shape0 - in0_shape1) / 2, in0_shape2, in0_shape3}, in0_p,
                         {in1_p, in2_p, in3_p}, out0_p, {out1_p, out2_p}, out3_p, out3_shape1);"""

BACKWARD = """
    criss_cross::backward(in0_shape0, {in0_shape1, (in1_shape0 - in0_shape1) / 2, in0_shape2, in0_shape3}, in0_p, in1_p,
                          {in2_p, in3_p}, in4_p, out0_p, {out1_p, out2_p, out3_p}, {out4_p, out5_p, out6_p});"""


class _CrissCross(jt.Function):
    """Fused attention: x (B, C, H, W), concatenated q, k, v weights (C + 2 C', C) and biases (C + 2 C'), gamma (1).

    The weights have x's dtype; biases and gamma are float32. Scratch memory is an extra output that is dropped after
    the call, so Jittor's allocator reuses it. The CPU processes one image at a time, CUDA the whole batch. Saves x,
    the projections and the attention weights for backward; under no_grad it saves nothing.
    """

    def execute(self, x: jt.Var, weight: jt.Var, bias: jt.Var, gamma: jt.Var) -> jt.Var:
        batch, channels, height, width = x.shape
        pixels = height * width
        shapes = [x.shape, (batch, pixels, weight.shape[0]), (batch, pixels, height + width)]
        scratch = (batch * pixels, channels) if kernel.on_cuda() else (pixels, min(channels, SLICE))
        y, projection, attention, _ = kernel.launch(
            "criss_cross", FORWARD, [*shapes, scratch], [x.dtype] * 4, [x, weight, bias, gamma]
        )
        if not jt.flags.no_grad:
            self.saved = x, weight, gamma, projection, attention
        return y

    def grad(self, dy: jt.Var) -> tuple[jt.Var, ...]:
        x, weight, gamma, projection, attention = self.saved
        batch, pixels, projected = projection.shape
        rows = pixels * (batch if kernel.on_cuda() else 1)
        scratch = [(rows, x.shape[1]), (rows, attention.shape[2]), (rows, projected)]
        shapes = [x.shape, weight.shape, (projected,), (1,), *scratch]
        dtypes = [x.dtype, *["float32"] * 3, *[x.dtype] * 3]
        inputs = [x, (weight * gamma).cast(x.dtype), projection, attention, dy]
        dx, dweight, dbias, dgamma = kernel.launch("criss_cross", BACKWARD, shapes, dtypes, inputs)[:4]
        return dx, (dweight * gamma).cast(weight.dtype), dbias * gamma, dgamma


def criss_cross_reference(
    x: jt.Var,
    query_conv: Callable[[jt.Var], jt.Var],
    key_conv: Callable[[jt.Var], jt.Var],
    value_conv: Callable[[jt.Var], jt.Var],
    gamma: jt.Var,
) -> jt.Var:
    """Plain version in the paper's two steps, affinity (eq. 1) and aggregation (eq. 2): (B, C, H, W) -> same shape."""
    batch, channels, height, width = x.shape

    def columns(t: jt.Var) -> jt.Var:  # (B, C, H, W) -> (B·W, H, C)
        return _permuted(t, 0, 3, 2, 1).reshape(batch * width, height, -1)

    def rows(t: jt.Var) -> jt.Var:  # (B, C, H, W) -> (B·H, W, C)
        return _permuted(t, 0, 2, 3, 1).reshape(batch * height, width, -1)

    query, key, value = query_conv(x), key_conv(x), value_conv(x)
    # the pixel itself is masked in its column and kept in its row, so it counts once
    itself = jt.array([[-1e30 if i == j else 0.0 for j in range(height)] for i in range(height)])
    of_columns = jt.matmul(columns(query), _permuted(columns(key), 0, 2, 1)) + itself
    of_rows = jt.matmul(rows(query), _permuted(rows(key), 0, 2, 1))
    of_columns = of_columns.reshape(batch, width, height, height).permute(0, 2, 1, 3)
    affinity = jt.concat([of_columns, of_rows.reshape(batch, height, width, width)], dim=3)

    attention = jt.nn.softmax(affinity, dim=3)  # (B, H, W, H + W)
    to_columns = attention[:, :, :, :height].permute(0, 2, 1, 3).reshape(batch * width, height, height)
    to_rows = attention[:, :, :, height:].reshape(batch * height, width, width)
    from_columns = jt.matmul(to_columns, columns(value)).reshape(batch, width, height, channels)
    from_rows = jt.matmul(to_rows, rows(value)).reshape(batch, height, width, channels)
    return gamma * (_permuted(from_columns, 0, 3, 2, 1) + _permuted(from_rows, 0, 3, 1, 2)) + x


def _permuted(x: jt.Var, *axes: int) -> jt.Var:
    """`x.permute(*axes)` by reindexing: on CUDA Jittor's permute runs on the host if it moves the last axis."""
    return x.reindex([x.shape[axis] for axis in axes], [f"i{axes.index(axis)}" for axis in range(len(axes))])


class CrissCrossAttention(jt.nn.Module):
    """gamma · Σ A · V + x, (B, C, H, W) -> the same shape; one softmax over H + W - 1 positions per pixel.

    x is float32, on CUDA also bfloat16. Parameters are named as in the published weights: 1 × 1 convolutions
    `query_conv` and `key_conv` (to max(C // 8, 1) channels) and `value_conv` (to C), with biases; `gamma` (1),
    initialised to 0.
    """

    def __init__(self, channels: int):
        reduced = max(channels // 8, 1)
        self.query_conv = jt.nn.Conv(channels, reduced, 1)
        self.key_conv = jt.nn.Conv(channels, reduced, 1)
        self.value_conv = jt.nn.Conv(channels, channels, 1)
        self.gamma = jt.zeros(1)

    def execute(self, x: jt.Var) -> jt.Var:
        convolutions = self.query_conv, self.key_conv, self.value_conv
        if not kernel.available("criss_cross", x, *self.parameters()):
            return criss_cross_reference(x, *convolutions, self.gamma)
        weight = jt.concat([conv.weight.reshape(-1, x.shape[1]) for conv in convolutions]).cast(x.dtype)
        bias = jt.concat([conv.bias for conv in convolutions]).float32()
        return _CrissCross()(x, weight, bias, self.gamma.float32())
