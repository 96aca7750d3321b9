"""Norm, residual and ReLU after a convolution; in inference fused into its kernel, on results still in the cache."""

from dataclasses import dataclass

from ccnet.ops.batch_norm import BatchNorm
from ccnet.runtime import jt, nn


@dataclass(frozen=True, eq=False)
class Epilogue:
    """z (B, C, H, W) -> leaky ReLU of norm(z) + residual (B, C, H, W). Without a norm it is the identity."""

    norm: BatchNorm | None = None
    residual: jt.Var | None = None
    slope: float = 1.0

    def __call__(self, z: jt.Var) -> jt.Var:
        """Apply it, unfused, to the output `z` of a convolution."""
        return z if self.norm is None else self.norm(z, self.residual, self.slope)

    def variables(self) -> list[jt.Var]:
        """The extra inputs of the kernel: the norm's constants, then the residual."""
        return ([] if self.norm is None else self.norm.constants()) + ([] if self.residual is None else [self.residual])

    def literal(self, first: int) -> str:
        """The C++ expression of type Epilogue for a kernel whose extra inputs begin at input number `first`."""
        if self.norm is None:
            return "Epilogue{}"
        norm = ", ".join(f"in{number}_p" for number in range(first, first + 4))
        residual = "nullptr" if self.residual is None else f"in{first + 4}_p"
        return f'Epilogue{{{{{norm}, (float)data["eps"]}}, {residual}, (float)data["slope"]}}'

    def data(self) -> dict[str, float]:
        """The entries of the kernel's `data` that `literal` refers to."""
        return {} if self.norm is None else {"eps": self.norm.eps, "slope": self.slope}


NOTHING = Epilogue()


def conv_norm_act(
    convolution, norm: BatchNorm, x: jt.Var, residual: jt.Var | None = None, slope: float = 0.0
) -> jt.Var:
    """Leaky ReLU of norm(convolution(x)) + residual, for x (B, C, H, W); `slope` 0 is ReLU, 1 the identity."""
    if norm.is_training() or type(convolution) is nn.Conv:  # Jittor's own convolution takes no epilogue
        return norm(convolution(x), residual, slope)
    return convolution(x, Epilogue(norm, residual, slope))
