"""Depthwise convolution: one K × K kernel per channel."""

from ccnet.ops import kernel
from ccnet.runtime import jt

UNROLLED = (1, 3, 5, 7)  # kernel sizes unrolled in C++ and CUDA; template argument 0 is any other size


class _Depthwise(jt.Function):
    """x float32 or bfloat16; y and dx have x's dtype; weight and bias are float32."""

    def __init__(self, stride: int, dilation: int):
        self.data = {"stride": stride, "dilation": dilation}

    def _launch(self, function: str, arguments: str, image: str, outputs: list, inputs: list) -> tuple[jt.Var, ...]:
        """Run C++ `function` with `arguments`; `image` is the variable with x's sizes, `outputs` are (shape, dtype)."""
        size = self.weight.shape[-1]
        call = f"""
            depthwise::Padded shape({image}_shape2, {image}_shape3, {size}, data["stride"], data["dilation"]);
            depthwise::{function}<{size if size in UNROLLED else 0}>({arguments});"""
        shapes, dtypes = zip(*outputs, strict=True)
        return kernel.launch("depthwise", call, shapes, dtypes, inputs, self.data)

    def execute(self, x: jt.Var, weight: jt.Var, bias: jt.Var | None) -> jt.Var:
        self.x, self.weight, self.bias = x, weight, bias
        stride = self.data["stride"]
        shape = (*x.shape[:2], (x.shape[2] - 1) // stride + 1, (x.shape[3] - 1) // stride + 1)
        inputs = [x, weight] if bias is None else [x, weight, bias]
        third = "nullptr" if bias is None else "in2_p"
        arguments = f"in0_p, in1_p, {third}, out0_p, in0_shape0 * in0_shape1, in0_shape1, shape"
        return self._launch("forward", arguments, "in0", [(shape, x.dtype)], inputs)[0]

    def grad(self, dy: jt.Var) -> tuple[jt.Var, jt.Var, jt.Var | None]:
        # two launches: Jittor runs only those whose gradient is needed
        arguments = "in0_p, in1_p, out0_p, in1_shape0 * in1_shape1, in1_shape1, shape"
        (dx,) = self._launch("input_gradient", arguments, "out0", [(self.x.shape, self.x.dtype)], [self.weight, dy])
        arguments = "in0_p, in1_p, out0_p, out1_p, in0_shape0, in0_shape1, shape"
        outputs = [(self.weight.shape, "float32"), (self.weight.shape[:1], "float32")]
        dweight, dbias = self._launch("weight_gradient", arguments, "in0", outputs, [self.x, dy])
        return dx, dweight, None if self.bias is None else dbias


class DepthwiseConv(jt.nn.Conv):
    """x (B, C, H, W) -> (B, C, ⌈H / stride⌉, ⌈W / stride⌉), zero-padded.

    Parameters `weight` (C, 1, K, K) and `bias` (C). Raises ValueError for an even `kernel_size`.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int = 1, dilation: int = 1, bias: bool = True):
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}")
        padding = dilation * (kernel_size // 2)
        super().__init__(channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=bias)

    def execute(self, x: jt.Var) -> jt.Var:
        if not kernel.available("depthwise", x, self.weight):
            return super().execute(x)
        bias = None if self.bias is None else self.bias.float32()
        return _Depthwise(self.stride[0], self.dilation[0])(x, self.weight.float32(), bias)
