"""SGD and AdamW with in-place updates, and a moving average of the weights.

Jittor's own optimizers allocate new weights and moments at every step, which fragments the memory that activations
need, and update them on one thread. State and formulas are Jittor's, which are PyTorch's.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ccnet.ops import kernel
from ccnet.runtime import jt

SGD_CALL = """
    const optimizers::Sgd sgd = {(float)data["rate"], (float)data["momentum"], (float)data["decay"],
                                 (float)data["scale"]};
    optimizers::step(sgd, in0->num, in0_p, in1_p, in2_p);"""
ADAMW_CALL = """
    const optimizers::AdamW adamw = {(float)data["beta1"], (float)data["beta2"], (float)data["eps"],
                                     (float)data["rate"], (float)data["correction"], (float)data["decay"],
                                     (float)data["scale"]};
    optimizers::step(adamw, in0->num, in0_p, in1_p, in2_p, in3_p);"""
SQUARES_CALL = "optimizers::squares(in0->num, in0_p, out0_p);"
AVERAGE_CALL = 'optimizers::average(data["decay"], in0->num, in0_p, in1_p);'
SHARE = 32768  # values in a partial sum of squares, as in optimizers.cc

Call = tuple[str, tuple[str, ...], dict[str, float]]  # statement, names of the state, numbers


class _InPlace(jt.optim.Optimizer):
    """What both optimizers share; `_call` says which kernel updates a parameter, with which state and numbers."""

    gradients: Sequence[jt.Var] = ()
    scale = 1.0

    def backward(self, loss: jt.Var) -> None:
        """Add the loss's gradients to `gradients` and compute them, so nothing pending reads the old weights."""
        parameters = [value for group in self.param_groups for value in group["params"]]
        gradients = jt.grad(loss, parameters, retain_graph=False)
        if self.gradients:
            gradients = [sofar + new for sofar, new in zip(self.gradients, gradients, strict=True)]
        self.gradients = gradients
        jt.sync_all()

    def gradient_norm(self) -> float:
        """The L2 norm of all the gradients accumulated by `backward` taken together."""
        sums = np.concatenate([_squares(gradient).numpy() for gradient in self.gradients])
        return float(np.sqrt(sums.sum(dtype=np.float64)))

    def step(self, loss: jt.Var | None = None, scale: float = 1.0) -> None:
        """One update with `scale` times the gradients accumulated by `backward`, plus those of `loss` if given."""
        if loss is not None:
            self.backward(loss)
        gradients, self.gradients = iter(self.gradients), ()
        self.n_step += 1
        self.scale = scale
        if kernel.available("optimizers", *(value for group in self.param_groups for value in group["params"])):
            return self._update(gradients)
        for group in self.param_groups:
            group["grads"] = [next(gradients) * scale for _ in group["params"]]  # where Jittor's own step reads them
        return super().step()

    def _update(self, gradients: Iterator[jt.Var]) -> None:
        """Run the kernel on each parameter; "decay" is multiplied by the group's weight decay."""
        call, state, data = self._call()
        done: list[jt.Var] = []
        for group in self.param_groups:
            own = data | {"decay": data["decay"] * group.get("weight_decay", self.weight_decay), "scale": self.scale}
            for p, *values in zip(group["params"], *(group[name] for name in state), strict=True):
                done += kernel.launch("optimizers", call, [(1,)], ["float32"], [p, next(gradients), *values], own)
        jt.sync(done)


class SGD(_InPlace, jt.optim.SGD):
    """Stochastic gradient descent with momentum and weight decay; its state is "values" in each group."""

    def _call(self) -> Call:
        return SGD_CALL, ("values",), {"rate": self.lr, "momentum": self.momentum, "decay": 1.0}


class AdamW(_InPlace, jt.optim.AdamW):
    """Adam with decoupled weight decay; its state is the moments "m" and "values" in each group."""

    def _call(self) -> Call:
        beta1, beta2 = self.betas
        rate, correction = self.lr / (1 - beta1**self.n_step), (1 - beta2**self.n_step) ** 0.5
        data = {"beta1": beta1, "beta2": beta2, "eps": self.eps, "rate": rate, "correction": correction}
        return ADAMW_CALL, ("m", "values"), data | {"decay": self.lr}


class Average:
    """An exponential moving average of a network's parameters and running statistics, `values` by name.

    The decay of step t is min(`decay`, (1 + t) / (10 + t)), so that the first weights are soon forgotten.
    """

    def __init__(self, values: Mapping[str, jt.Var], decay: float):
        self.decay = decay
        self.values = {name: jt.array(value.numpy()) for name, value in values.items()}

    def update(self, values: Mapping[str, jt.Var], step: int) -> None:
        """Take in the weights `values` after `step` (1 …) optimiser steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        if kernel.available("optimizers", *values.values()):
            pairs = [[mean, values[name]] for name, mean in self.values.items()]
            jt.sync([kernel.launch("optimizers", AVERAGE_CALL, [(1,)], ["float32"], pair, {"decay": decay})[0]
                     for pair in pairs])  # fmt: skip
        else:
            for name, mean in self.values.items():
                mean.update(mean + (1 - decay) * (values[name] - mean))


def _squares(gradient: jt.Var) -> jt.Var:
    """Partial sums of a gradient's squares, float32; their order depends on its size alone."""
    if not kernel.available("optimizers", gradient):
        return (gradient * gradient).sum().reshape(1)
    shape = (-(-gradient.numel() // SHARE),)
    return kernel.launch("optimizers", SQUARES_CALL, [shape], ["float32"], [gradient])[0]
