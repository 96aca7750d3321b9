"""A block of a Visual Attention Network in inference, as one kernel."""

from collections.abc import Sequence

from ccnet.ops import kernel
from ccnet.runtime import jt

NORM_2, FC1 = 16, 20  # the inputs at which the second norm and the weight of fc1 begin
CALL = """
    const mlp::Sizes sizes = {{in0_shape0, in0_shape1, in{fc1}_shape0, in0_shape2, in0_shape3,
                              (int64_t)data["dilation"]}};
    van_block::forward(sizes, {{{block}}}, in0_p, out0_p, out1_p);"""


def applies(x: jt.Var) -> bool:
    """On the CPU, in inference, where nothing is kept for gradients."""
    return bool(jt.flags.no_grad) and kernel.applies("van_block", x)


def van_block(x: jt.Var, parameters: Sequence[jt.Var], dilation: int, eps: float) -> jt.Var:
    """x (B, C, H, W) -> the same shape.

    `parameters` are those of the C++ `Block`, in its order: of a norm weight, bias, running mean and variance, of a
    convolution weight and bias. Every depthwise convolution is dilated by `dilation`.
    """
    block = [f"in{number}_p" for number in range(1, len(parameters) + 1)]
    for norm in (NORM_2, 1):
        block.insert(norm + 3, '(float)data["eps"]')
    call = CALL.format(block=", ".join(block), fc1=FC1)
    inputs, data = [x, *parameters], {"dilation": dilation, "eps": eps}
    return kernel.launch("van_block", call, [x.shape] * 2, ["float32"] * 2, inputs, data)[0]
