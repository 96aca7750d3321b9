"""1 × 1 convolution as a matrix product."""

from ccnet.ops import kernel
from ccnet.ops.epilogue import NOTHING, Epilogue
from ccnet.runtime import jt

FORWARD = """
    const pointwise::Sizes sizes = {{in0_shape0, in0_shape1, in1_shape0, in0_shape2 * in0_shape3}};
    pointwise::convolve(sizes, 'N', in0_p, in1_p, {bias}, out0_p, {epilogue});"""
INPUT_GRADIENT = """
    const pointwise::Sizes sizes = {in1_shape0, in0_shape0, in0_shape1, in1_shape2 * in1_shape3};
    pointwise::convolve(sizes, 'T', in1_p, in0_p, nullptr, out0_p);"""
WEIGHT_GRADIENT = """
    const pointwise::Sizes sizes = {in0_shape0, in0_shape1, in1_shape1, in0_shape2 * in0_shape3};
    pointwise::weight_gradient(sizes, in0_p, in1_p, out0_p, out1_p);"""


def _forward(x: jt.Var, weight: jt.Var, bias: jt.Var | None, epilogue: Epilogue = NOTHING) -> jt.Var:
    inputs = [x, weight] if bias is None else [x, weight, bias]
    call = FORWARD.format(bias="nullptr" if bias is None else "in2_p", epilogue=epilogue.literal(len(inputs)))
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    inputs += epilogue.variables()
    return kernel.launch("pointwise", call, [shape], ["float32"], inputs, epilogue.data())[0]


class _Pointwise(jt.Function):
    def execute(self, x: jt.Var, weight: jt.Var, bias: jt.Var | None) -> jt.Var:
        self.x, self.weight, self.bias = x, weight, bias
        return _forward(x, weight, bias)

    def grad(self, dy: jt.Var) -> tuple[jt.Var, jt.Var, jt.Var | None]:
        # two launches: Jittor runs only those whose gradient is needed
        (dx,) = kernel.launch("pointwise", INPUT_GRADIENT, [self.x.shape], ["float32"], [self.weight, dy])
        shapes = [self.weight.shape, self.weight.shape[:1]]
        dweight, dbias = kernel.launch("pointwise", WEIGHT_GRADIENT, shapes, ["float32"] * 2, [self.x, dy])
        return dx, dweight, None if self.bias is None else dbias


class PointwiseConv(jt.nn.Conv):
    """1 × 1 convolution and `epilogue`: x (B, I, H, W) -> (B, O, ⌈H / stride⌉, ⌈W / stride⌉).

    Parameters `weight` (O, I, 1, 1) and `bias` (O).
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True, stride: int = 1):
        super().__init__(in_channels, out_channels, 1, stride, bias=bias)

    def execute(self, x: jt.Var, epilogue: Epilogue = NOTHING) -> jt.Var:
        if not kernel.available("pointwise", x, self.weight):
            return epilogue(super().execute(x))
        if self.stride != (1, 1):
            x = x[:, :, :: self.stride[0], :: self.stride[1]]
        if jt.flags.no_grad:
            return _forward(x, self.weight, self.bias, epilogue)
        return epilogue(_Pointwise()(x, self.weight, self.bias))
