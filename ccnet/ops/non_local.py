"""Non-local attention (Wang et al., arXiv:1711.07971): every pixel to every pixel, the paper's baseline."""

from ccnet.runtime import jt, nn


class NonLocal(nn.Module):
    """`module(x)` = gamma · softmax(QᵀK) V + x over all H·W positions; `(B, C, H, W)` float32 in and out.

    Parameters as in `CrissCrossAttention`, so that the two differ in what a pixel attends to and nothing else.
    Memory grows as (H·W)².
    """

    def __init__(self, channels: int):
        reduced = max(channels // 8, 1)
        self.query_conv = nn.Conv(channels, reduced, 1)
        self.key_conv = nn.Conv(channels, reduced, 1)
        self.value_conv = nn.Conv(channels, channels, 1)
        self.gamma = nn.Parameter(jt.zeros(1))

    def execute(self, x: jt.Var) -> jt.Var:
        # image by image: Jittor is fast for products of two matrices, and slow for batches of them
        return jt.concat([self._attend(x[i : i + 1]) for i in range(x.shape[0])], dim=0)

    def _attend(self, x):
        channels, positions = x.shape[1], x.shape[2] * x.shape[3]
        query = self.query_conv(x).reshape(-1, positions)
        key = self.key_conv(x).reshape(-1, positions)
        value = self.value_conv(x).reshape(channels, positions)
        # QᵀK and VAᵀ, written as Jittor recognises products whose factors are transposed: a transpose of its own would
        # run on the host on CUDA
        pairs = [query.shape[0], positions, positions]
        scores = (query.broadcast(pairs, [2]) * key.broadcast(pairs, [1])).sum(0)
        context = nn.matmul_transpose(value, nn.softmax(scores, dim=1)).reshape(x.shape)
        return self.gamma * context + x
