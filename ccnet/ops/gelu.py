"""The Gaussian error linear unit (Hendrycks and Gimpel, arXiv:1606.08415), in its exact form x · Φ(x)."""

from ccnet.ops import kernel
from ccnet.runtime import jt

FORWARD = "gelu::forward(in0_p, out0_p, in0->num);"
BACKWARD = "gelu::backward(in0_p, in1_p, out0_p, in0->num);"


class _Gelu(jt.Function):
    def execute(self, x: jt.Var) -> jt.Var:
        self.x = x
        return kernel.launch("gelu", FORWARD, [x.shape], ["float32"], [x])[0]

    def grad(self, dy: jt.Var) -> jt.Var:
        return kernel.launch("gelu", BACKWARD, [dy.shape], ["float32"], [self.x, dy])[0]


def gelu(x: jt.Var) -> jt.Var:
    """x · Φ(x), elementwise, for x of any shape."""
    return _Gelu()(x) if kernel.available("gelu", x) else jt.nn.gelu(x)
