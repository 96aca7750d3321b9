"""Non-local attention (Wang et al., arXiv:1711.07971) over all pairs of pixels: the CCNet paper's baseline."""

from ccnet.runtime import jt, nn


class NonLocal(nn.Module):
    """gamma · softmax(QᵀK) V + x over all H·W positions; `(B, C, H, W)` float32 -> the same shape.

    Has the parameters of `CrissCrossAttention`, so the two differ only in the positions a pixel attends to. Memory
    grows as (H·W)².
    """

    def __init__(self, channels: int):
        reduced = max(channels // 8, 1)
        self.query_conv = nn.Conv(channels, reduced, 1)
        self.key_conv = nn.Conv(channels, reduced, 1)
        self.value_conv = nn.Conv(channels, channels, 1)
        self.gamma = nn.Parameter(jt.zeros(1))

    def execute(self, x: jt.Var) -> jt.Var:
        # image by image: Jittor is fast for single matrix products and slow for batched ones
        return jt.concat([self._attend(x[i : i + 1]) for i in range(x.shape[0])], dim=0)

    def _attend(self, x):
        channels, positions = x.shape[1], x.shape[2] * x.shape[3]
        query = self.query_conv(x).reshape(-1, positions)
        key = self.key_conv(x).reshape(-1, positions)
        value = self.value_conv(x).reshape(channels, positions)
        # QᵀK and VAᵀ, in the form that Jittor recognises as products of transposed factors; an explicit transpose runs
        # on the host on CUDA
        pairs = [query.shape[0], positions, positions]
        scores = (query.broadcast(pairs, [2]) * key.broadcast(pairs, [1])).sum(0)
        context = nn.matmul_transpose(value, nn.softmax(scores, dim=1)).reshape(x.shape)
        return self.gamma * context + x
