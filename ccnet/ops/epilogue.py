"""What follows a convolution. In inference its kernel applies it to results that are still in the cache."""

from dataclasses import dataclass

from ccnet.ops.batch_norm import BatchNorm
from ccnet.ops.gelu import gelu
from ccnet.runtime import jt, nn

ACTIVATIONS = ("leaky_relu", "gelu", "gate")  # numbered as in kernel.cc


@dataclass(frozen=True, eq=False)
class Epilogue:
    """z (B, C, H, W) -> activation(scale · z + shift + mix · residual), each left out where it is None.

    `scale`, `shift` and `mix` are (C), `residual` (B, C, H, W). "leaky_relu" has `slope` below 0: at 1 it is nothing,
    at 0 ReLU; "gate" multiplies by the residual instead of adding it.
    """

    scale: jt.Var | None = None
    shift: jt.Var | None = None
    residual: jt.Var | None = None
    mix: jt.Var | None = None
    activation: str = "leaky_relu"
    slope: float = 1.0

    def __call__(self, z: jt.Var) -> jt.Var:
        """The same in plain Jittor."""
        z = z if self.scale is None else z * _plane(self.scale)
        z = z if self.shift is None else z + _plane(self.shift)
        if self.activation == "gate":
            return z * self.residual
        if self.residual is not None:
            z = z + (self.residual if self.mix is None else self.residual * _plane(self.mix))
        if self.activation == "gelu":
            return gelu(z)
        return z if self.slope == 1 else nn.relu(z) if self.slope == 0 else nn.leaky_relu(z, self.slope)

    def _parts(self) -> list[jt.Var | None]:
        return [self.scale, self.shift, self.residual, self.mix]

    def variables(self) -> list[jt.Var]:
        """Those that are there: a kernel's further inputs."""
        return [part for part in self._parts() if part is not None]

    def literal(self, first: int) -> str:
        """The C++ Epilogue of a kernel whose further inputs begin at number `first`."""
        numbers = iter(range(first, first + 4))
        pointers = ["nullptr" if part is None else f"in{next(numbers)}_p" for part in self._parts()]
        return f'Epilogue{{{", ".join(pointers)}, (int)data["activation"], (float)data["slope"]}}'

    def data(self) -> dict[str, float]:
        """What `literal` reads from the kernel's data."""
        return {"activation": ACTIVATIONS.index(self.activation), "slope": self.slope}


NOTHING = Epilogue()


def _plane(channels: jt.Var) -> jt.Var:
    return channels.reshape(1, -1, 1, 1)


def normed(convolution, norm: BatchNorm, x: jt.Var, residual: jt.Var | None = None, slope: float = 0.0) -> jt.Var:
    """Leaky ReLU of norm(convolution(x)) + residual, for x (B, C, H, W)."""
    if norm.is_training() or type(convolution) is nn.Conv:  # which takes no epilogue
        return Epilogue(residual=residual, slope=slope)(norm(convolution(x)))
    scale, shift = norm.affine()
    return convolution(x, Epilogue(scale, shift, residual, slope=slope))
