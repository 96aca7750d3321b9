"""3 × 3 convolution at stride 1 by Winograd's F(4 × 4, 3 × 3): 36 products where the definition takes 144."""

from ccnet.ops import kernel
from ccnet.ops.epilogue import NOTHING, Epilogue
from ccnet.runtime import jt

FORWARD = """
    const winograd::Sizes sizes = {{in0_shape0, in0_shape1, in1_shape0, in0_shape2, in0_shape3, {dilation}}};
    (winograd::large_tiles(sizes) ? winograd::convolve<4> : winograd::convolve<2>)(
        sizes, false, in0_p, in1_p, {epilogue}, out0_p, out1_p, out2_p, out3_p);"""
INPUT_GRADIENT = """
    const winograd::Sizes sizes = {{in1_shape0, in0_shape0, in0_shape1, in1_shape2, in1_shape3, {dilation}}};
    (winograd::large_tiles(sizes) ? winograd::convolve<4> : winograd::convolve<2>)(
        sizes, true, in1_p, in0_p, {epilogue}, out0_p, out1_p, out2_p, out3_p);"""
WEIGHT_GRADIENT = """
    const winograd::Sizes sizes = {{in0_shape0, in0_shape1, in1_shape1, in0_shape2, in0_shape3, {dilation}}};
    (winograd::large_tiles(sizes) ? winograd::weight_gradient<4> : winograd::weight_gradient<2>)(
        sizes, in0_p, in1_p, out0_p, out1_p, out2_p, out3_p);"""
POINTS, TILES, CHANNELS, LANES = 36, 256, 64, 16  # as in the C++


def _scratch(inputs: int, outputs: int, width: int) -> list[tuple[int]]:
    """Kernels, tiles and products, transformed: further outputs that nobody keeps; Jittor reuses their memory."""
    most = min(CHANNELS, -(-inputs // LANES) * LANES)
    pitch = -(-(TILES + width // 2 + 1) // LANES) * LANES + LANES
    return [(POINTS * (count + LANES),) for count in (outputs * most, most * pitch, outputs * pitch)]


def _launch(call: str, shape, scratch: list, inputs: list, dilation: int, epilogue: Epilogue = NOTHING) -> jt.Var:
    call = call.format(dilation='(int64_t)data["dilation"]', epilogue=epilogue.literal(len(inputs)))
    shapes, data = [shape, *scratch], {"dilation": dilation, **epilogue.data()}
    return kernel.launch("winograd", call, shapes, ["float32"] * 4, [*inputs, *epilogue.variables()], data)[0]


def _forward(x: jt.Var, weight: jt.Var, dilation: int, epilogue: Epilogue = NOTHING) -> jt.Var:
    outputs, inputs = weight.shape[:2]
    shape = (x.shape[0], outputs, *x.shape[2:])
    return _launch(FORWARD, shape, _scratch(inputs, outputs, x.shape[3]), [x, weight], dilation, epilogue)


class _Winograd(jt.Function):
    def __init__(self, dilation: int):
        self.dilation = dilation

    def execute(self, x: jt.Var, weight: jt.Var) -> jt.Var:
        self.x, self.weight = x, weight
        return _forward(x, weight, self.dilation)

    def grad(self, dy: jt.Var) -> tuple[jt.Var, jt.Var]:
        # two launches: Jittor runs only the one whose gradient is asked for
        x, weight = self.x, self.weight
        (outputs, inputs), width = weight.shape[:2], x.shape[3]
        dx = _launch(INPUT_GRADIENT, x.shape, _scratch(outputs, inputs, width), [weight, dy], self.dilation)
        scratch = _scratch(inputs, outputs, width)
        return dx, _launch(WEIGHT_GRADIENT, weight.shape, scratch, [x, dy], self.dilation)


class Conv3x3(jt.nn.Conv):
    """x (B, I, H, W) -> (B, O, ⌈H / stride⌉, ⌈W / stride⌉), zeros beyond the border; then `epilogue`.

    Parameter `weight` (O, I, 3, 3).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
        super().__init__(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False)

    def execute(self, x: jt.Var, epilogue: Epilogue = NOTHING) -> jt.Var:
        if self.stride != (1, 1) or not kernel.applies("winograd", x, self.weight):
            return epilogue(super().execute(x))
        if jt.flags.no_grad:
            return _forward(x, self.weight, self.dilation[0], epilogue)
        return epilogue(_Winograd(self.dilation[0])(x, self.weight))
