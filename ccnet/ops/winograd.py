"""3 × 3 convolution at stride 1 by Winograd's F(2 × 2, 3 × 3): 16 products where the definition takes 36."""

from ccnet.ops import kernel
from ccnet.runtime import jt

FORWARD = """
    const winograd::Sizes sizes = {in0_shape0, in0_shape1, in1_shape0, in0_shape2, in0_shape3, (int64_t)data["dilation"]};
    #pragma omp parallel
    {
        winograd::transform_weight(in1_shape0, in1_shape1, in1_p, out1_p);
        winograd::convolve(sizes, false, in0_p, out1_p, out0_p, out2_p, out3_p);
    }"""
INPUT_GRADIENT = """
    const winograd::Sizes sizes = {in1_shape0, in0_shape0, in0_shape1, in1_shape2, in1_shape3, (int64_t)data["dilation"]};
    #pragma omp parallel
    {
        winograd::transform_weight(in0_shape0, in0_shape1, in0_p, out1_p);
        winograd::convolve(sizes, true, in1_p, out1_p, out0_p, out2_p, out3_p);
    }"""
WEIGHT_GRADIENT = """
    const winograd::Sizes sizes = {in0_shape0, in0_shape1, in1_shape1, in0_shape2, in0_shape3, (int64_t)data["dilation"]};
    #pragma omp parallel
    winograd::weight_gradient(sizes, in0_p, in1_p, out0_p, out1_p, out2_p, out3_p);"""
POINTS, BLOCK, CHANNELS, LANES = 16, 256, 512, 16  # as in the C++


def _scratch(inputs: int, outputs: int, width: int) -> list[tuple[int]]:
    """Transformed weights, tiles and products: further outputs that nobody keeps, so that Jittor reuses their memory."""
    pitch = -(-(BLOCK + width // 2 + 1) // LANES) * LANES + LANES
    return [(POINTS * (count + LANES),) for count in (outputs * inputs, min(inputs, CHANNELS) * pitch, outputs * pitch)]


class _Winograd(jt.Function):
    def __init__(self, dilation: int):
        self.data = {"dilation": dilation}

    def _launch(self, call: str, shape, scratch: list, inputs: list) -> jt.Var:
        return kernel.launch("winograd", call, [shape, *scratch], ["float32"] * 4, inputs, self.data)[0]

    def execute(self, x: jt.Var, weight: jt.Var) -> jt.Var:
        self.x, self.weight = x, weight
        outputs, inputs = weight.shape[:2]
        shape = (x.shape[0], outputs, *x.shape[2:])
        return self._launch(FORWARD, shape, _scratch(inputs, outputs, x.shape[3]), [x, weight])

    def grad(self, dy: jt.Var) -> tuple[jt.Var, jt.Var]:
        # two launches: Jittor runs only the one whose gradient is asked for
        outputs, inputs = self.weight.shape[:2]
        width = self.x.shape[3]
        dx = self._launch(INPUT_GRADIENT, self.x.shape, _scratch(outputs, inputs, width), [self.weight, dy])
        scratch = _scratch(inputs, outputs, width)
        return dx, self._launch(WEIGHT_GRADIENT, self.weight.shape, scratch, [self.x, dy])


class Conv3x3(jt.nn.Conv):
    """x (B, I, H, W) -> (B, O, ⌈H / stride⌉, ⌈W / stride⌉), zeros beyond the border. Parameter `weight` (O, I, 3, 3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
        super().__init__(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False)

    def execute(self, x: jt.Var) -> jt.Var:
        if self.stride != (1, 1) or not kernel.applies("winograd", x, self.weight):
            return super().execute(x)
        return _Winograd(self.dilation[0])(x, self.weight)
