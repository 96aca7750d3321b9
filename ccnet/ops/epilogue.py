"""What follows a convolution. In inference its kernel applies it to results that are still in the cache."""

from dataclasses import dataclass

from ccnet.ops.batch_norm import BatchNorm
from ccnet.runtime import jt, nn


@dataclass(frozen=True, eq=False)
class Epilogue:
    """z (B, C, H, W) -> leaky ReLU of norm(z) + residual (B, C, H, W). Without a norm it is nothing."""

    norm: BatchNorm | None = None
    residual: jt.Var | None = None
    slope: float = 1.0

    def __call__(self, z: jt.Var) -> jt.Var:
        """The same, of a convolution that has been."""
        return z if self.norm is None else self.norm(z, self.residual, self.slope)

    def variables(self) -> list[jt.Var]:
        """A kernel's further inputs."""
        return ([] if self.norm is None else self.norm.constants()) + ([] if self.residual is None else [self.residual])

    def literal(self, first: int) -> str:
        """The C++ Epilogue of a kernel whose further inputs begin at number `first`."""
        if self.norm is None:
            return "Epilogue{}"
        norm = ", ".join(f"in{number}_p" for number in range(first, first + 4))
        residual = "nullptr" if self.residual is None else f"in{first + 4}_p"
        return f'Epilogue{{{{{norm}, (float)data["eps"]}}, {residual}, (float)data["slope"]}}'

    def data(self) -> dict[str, float]:
        """What `literal` reads from the kernel's data."""
        return {} if self.norm is None else {"eps": self.norm.eps, "slope": self.slope}


NOTHING = Epilogue()


def conv_norm_act(
    convolution, norm: BatchNorm, x: jt.Var, residual: jt.Var | None = None, slope: float = 0.0
) -> jt.Var:
    """Leaky ReLU of norm(convolution(x)) + residual, for x (B, C, H, W); a `slope` of 0 is ReLU, of 1 nothing."""
    if norm.is_training() or type(convolution) is nn.Conv:  # which takes no epilogue
        return norm(convolution(x), residual, slope)
    return convolution(x, Epilogue(norm, residual, slope))
