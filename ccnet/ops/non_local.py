"""Non-local attention (Wang et al., arXiv:1711.07971) over all pairs of pixels: the CCNet paper's baseline."""

from ccnet.ops import kernel
from ccnet.ops.pointwise import PointwiseConv
from ccnet.runtime import jt, nn

SIZES = "in0_shape0, {in0_shape1, in2_shape1, in0_shape2}"
FORWARD = f"non_local::forward({SIZES}, in0_p, in1_p, in2_p, out0_p, out1_p);"
BACKWARD = f"non_local::backward({SIZES}, {{in0_p, in1_p, in2_p, in3_p, in4_p, in5_p}}, out0_p, out1_p, out2_p);"


class _NonLocal(jt.Function):
    """V softmax(QᵀK)ᵀ of q and k `(B, C', N)` and v `(B, C, N)`, float32 -> `(B, C, N)`.

    Stores no weights, N² for each image: backward recomputes them from each query's log-sum-exp.
    """

    def execute(self, q: jt.Var, k: jt.Var, v: jt.Var) -> jt.Var:
        shapes = [v.shape, (v.shape[0], v.shape[2])]
        y, logsumexp = kernel.launch("non_local", FORWARD, shapes, [v.dtype] * 2, [q, k, v])
        if not jt.flags.no_grad:
            self.saved = q, k, v, y, logsumexp
        return y

    def grad(self, dy: jt.Var) -> tuple[jt.Var, ...]:
        q, k, v, y, logsumexp = self.saved
        inputs = [q, k, v, logsumexp, (dy * y).sum(dim=1), dy]
        return kernel.launch("non_local", BACKWARD, [q.shape, k.shape, v.shape], [v.dtype] * 3, inputs)


def non_local_reference(q: jt.Var, k: jt.Var, v: jt.Var) -> jt.Var:
    """Plain version, which stores the weights: q and k `(B, C', N)`, v `(B, C, N)` -> `(B, C, N)`."""
    # Jittor is fast for single matrix products and slow for batched ones
    return jt.stack([_attend(q[i], k[i], v[i]) for i in range(q.shape[0])])


def _attend(query: jt.Var, key: jt.Var, value: jt.Var) -> jt.Var:
    # QᵀK and VAᵀ, in the form that Jittor recognises as products of transposed factors; an explicit transpose runs
    # on the host on CUDA
    pairs = [query.shape[0], query.shape[1], query.shape[1]]
    scores = (query.broadcast(pairs, [2]) * key.broadcast(pairs, [1])).sum(0)
    return nn.matmul_transpose(value, nn.softmax(scores, dim=1))


class NonLocal(nn.Module):
    """gamma · V softmax(QᵀK)ᵀ + x over all H·W positions; `(B, C, H, W)` float32 -> the same shape.

    Has the parameters of `CrissCrossAttention`, so the two differ only in the positions a pixel attends to. Time grows
    as (H·W)²; so does memory, except with the CPU's kernel.
    """

    def __init__(self, channels: int):
        reduced = max(channels // 8, 1)
        self.query_conv = PointwiseConv(channels, reduced)
        self.key_conv = PointwiseConv(channels, reduced)
        self.value_conv = PointwiseConv(channels, channels)
        self.gamma = nn.Parameter(jt.zeros(1))

    def execute(self, x: jt.Var) -> jt.Var:
        projected = [conv(x).flatten(2) for conv in (self.query_conv, self.key_conv, self.value_conv)]
        attend = _NonLocal() if kernel.available("non_local", *projected) else non_local_reference
        return self.gamma * attend(*projected).reshape(x.shape) + x
