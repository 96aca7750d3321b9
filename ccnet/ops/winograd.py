"""3 × 3 convolution at stride 1 by Winograd's F(4 × 4, 3 × 3): 36 multiplications per tile instead of 144."""

from collections.abc import Sequence

from ccnet.ops import kernel
from ccnet.ops.epilogue import NOTHING, Epilogue
from ccnet.runtime import jt

CUT = """
    const winograd::Cut cut = {{(int64_t)data["tiles"], (int64_t)data["channels"], (int64_t)data["pitch"]}};
    const winograd::Workspace workspace = {{{{out1_p, out1_shape0, out1_shape1}}, {{out2_p, out2_shape0, out2_shape1}},
                                           {{out3_p, out3_shape0, out3_shape1}}}};"""
FORWARD = f"""{CUT}
    const winograd::Sizes sizes = {{{{in0_shape0, in0_shape1, in1_shape0, in0_shape2, in0_shape3, {{dilation}}}}}};
    (winograd::large_tiles(sizes) ? winograd::convolve<4> : winograd::convolve<2>)(
        sizes, cut, workspace, false, in0_p, in1_p, {{epilogue}}, out0_p);"""
INPUT_GRADIENT = f"""{CUT}
    const winograd::Sizes sizes = {{{{in1_shape0, in0_shape0, in0_shape1, in1_shape2, in1_shape3, {{dilation}}}}}};
    (winograd::large_tiles(sizes) ? winograd::convolve<4> : winograd::convolve<2>)(
        sizes, cut, workspace, true, in1_p, in0_p, {{epilogue}}, out0_p);"""
WEIGHT_GRADIENT = f"""{CUT}
    const winograd::Sizes sizes = {{{{in0_shape0, in0_shape1, in1_shape1, in0_shape2, in0_shape3, {{dilation}}}}}};
    (winograd::large_tiles(sizes) ? winograd::weight_gradient<4> : winograd::weight_gradient<2>)(
        sizes, cut, workspace, in0_p, in1_p, out0_p);"""
# Block sizes of the C++ code; they are set only here.
POINTS = 36  # points of a transformed 4 × 4 tile, (4 + 2)²; a 2 × 2 tile has fewer
TILES = 256  # minimum tiles of a block, which is rounded up to whole rows of tiles
CHANNELS = 64  # input channels transformed at a time
LINE = 16  # floats of a cache line, and of one vector store in C++


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _workspace(inputs: int, outputs: int, width: int) -> tuple[dict[str, int], list[tuple[int, int]]]:
    """The fields of the C++ Cut, and the shapes of its Workspace: transformed kernels, tiles and products by point.

    The workspace is extra outputs that are dropped after the call, so Jittor reuses their memory. The extra cache line
    per point avoids a stride of a power of two, with which the values of one position would share a cache set.
    """
    channels = min(CHANNELS, _round_up(inputs, LINE))
    longest = TILES + width // 2 + 1  # longest block: TILES - 1 tiles plus one row of 2 × 2 tiles
    pitch = _round_up(longest, LINE) + LINE
    cut = {"tiles": TILES, "channels": channels, "pitch": pitch}
    return cut, [(POINTS, floats + LINE) for floats in (outputs * channels, channels * pitch, outputs * pitch)]


def _launch(
    call: str,
    shape: Sequence[int],
    inputs: list[jt.Var],
    workspace: tuple[dict[str, int], list],
    dilation: int,
    epilogue: Epilogue = NOTHING,
) -> jt.Var:
    cut, shapes = workspace
    call = call.format(dilation='(int64_t)data["dilation"]', epilogue=epilogue.literal(len(inputs)))
    data = {"dilation": dilation, **cut, **epilogue.data()}
    inputs = [*inputs, *epilogue.variables()]
    return kernel.launch("winograd", call, [shape, *shapes], ["float32"] * 4, inputs, data)[0]


def _forward(x: jt.Var, weight: jt.Var, dilation: int, epilogue: Epilogue = NOTHING) -> jt.Var:
    outputs, inputs = weight.shape[:2]
    shape = (x.shape[0], outputs, *x.shape[2:])
    return _launch(FORWARD, shape, [x, weight], _workspace(inputs, outputs, x.shape[3]), dilation, epilogue)


class _Winograd(jt.Function):
    def __init__(self, dilation: int):
        self.dilation = dilation

    def execute(self, x: jt.Var, weight: jt.Var) -> jt.Var:
        self.x, self.weight = x, weight
        return _forward(x, weight, self.dilation)

    def grad(self, dy: jt.Var) -> tuple[jt.Var, jt.Var]:
        # two launches: Jittor runs only those whose gradient is needed
        x, weight = self.x, self.weight
        (outputs, inputs), width = weight.shape[:2], x.shape[3]
        dx = _launch(INPUT_GRADIENT, x.shape, [weight, dy], _workspace(outputs, inputs, width), self.dilation)
        workspace = _workspace(inputs, outputs, width)
        return dx, _launch(WEIGHT_GRADIENT, weight.shape, [x, dy], workspace, self.dilation)


class Conv3x3(jt.nn.Conv):
    """3 × 3 convolution and `epilogue`: x (B, I, H, W) -> (B, O, ⌈H / stride⌉, ⌈W / stride⌉), zero-padded.

    Parameter `weight` (O, I, 3, 3).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
        super().__init__(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False)

    def execute(self, x: jt.Var, epilogue: Epilogue = NOTHING) -> jt.Var:
        if self.stride != (1, 1) or not kernel.available("winograd", x, self.weight):
            return epilogue(super().execute(x))
        if jt.flags.no_grad:
            return _forward(x, self.weight, self.dilation[0], epilogue)
        return epilogue(_Winograd(self.dilation[0])(x, self.weight))
