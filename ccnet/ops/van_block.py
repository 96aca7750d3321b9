"""A block of a Visual Attention Network in inference, as one CPU kernel."""

from collections.abc import Sequence

from ccnet.ops import kernel
from ccnet.runtime import jt

CALL = """
    const mlp::Sizes sizes = {in0_shape0, in0_shape1, in20_shape0, in0_shape2, in0_shape3, (int64_t)data["dilation"]};
    const float eps = data["eps"];
    const van_block::Block block = {
        {in1_p, in2_p, in3_p, in4_p, eps},      // norm_1
        {in5_p, in6_p},                         // proj_1
        {in7_p, in8_p},                         // conv0
        {in9_p, in10_p},                        // conv_spatial
        {in11_p, in12_p},                       // conv1
        {in13_p, in14_p},                       // proj_2
        in15_p,                                 // layer_scale_1
        {in16_p, in17_p, in18_p, in19_p, eps},  // norm_2
        {in20_p, in21_p},                       // fc1
        {in22_p, in23_p},                       // dwconv
        {in24_p, in25_p},                       // fc2
        in26_p,                                 // layer_scale_2
    };
    van_block::forward(sizes, block, in0_p, out0_p, out1_p);"""


def available(x: jt.Var) -> bool:
    """Whether the kernel applies: on the CPU, under no_grad, x float32."""
    return bool(jt.flags.no_grad) and kernel.available("van_block", x)


def van_block(x: jt.Var, parameters: Sequence[jt.Var], dilation: int, eps: float) -> jt.Var:
    """x (B, C, H, W) float32 -> the same shape.

    `parameters` are those named in CALL, in its order: weight, bias, running mean and variance of a norm, weight and
    bias of a convolution. `dilation` multiplies that of every depthwise convolution; `eps` is that of both norms.
    """
    inputs, data = [x, *parameters], {"dilation": dilation, "eps": eps}
    return kernel.launch("van_block", CALL, [x.shape] * 2, ["float32"] * 2, inputs, data)[0]
