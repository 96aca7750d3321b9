"""SGD and AdamW with in-place updates.

Jittor's own optimizers allocate new weights and moments at every step, which fragments the memory that activations
need, and update them on one thread. State and formulas are Jittor's, which are PyTorch's.
"""

from collections.abc import Iterator, Sequence

from ccnet.ops import kernel
from ccnet.runtime import jt

SGD_CALL = """
    const optimizers::Sgd sgd = {(float)data["rate"], (float)data["momentum"], (float)data["decay"]};
    optimizers::step(sgd, in0->num, in0_p, in1_p, in2_p);"""
ADAMW_CALL = """
    const optimizers::AdamW adamw = {(float)data["beta1"], (float)data["beta2"], (float)data["eps"],
                                     (float)data["rate"], (float)data["correction"], (float)data["decay"]};
    optimizers::step(adamw, in0->num, in0_p, in1_p, in2_p, in3_p);"""

Call = tuple[str, tuple[str, ...], dict[str, float]]  # statement, names of the state, numbers


class _InPlace(jt.optim.Optimizer):
    """What both optimizers share; `_call` says which kernel updates a parameter, with which state and numbers."""

    gradients: Sequence[jt.Var] = ()

    def backward(self, loss: jt.Var) -> None:
        """Add the loss's gradients to `gradients` and compute them, so nothing pending reads the old weights."""
        parameters = [value for group in self.param_groups for value in group["params"]]
        gradients = jt.grad(loss, parameters, retain_graph=False)
        if self.gradients:
            gradients = [sofar + new for sofar, new in zip(self.gradients, gradients, strict=True)]
        self.gradients = gradients
        jt.sync_all()

    def step(self, loss: jt.Var | None = None) -> None:
        """One update with the gradients accumulated by `backward`, plus those of `loss` if given."""
        if loss is not None:
            self.backward(loss)
        gradients, self.gradients = iter(self.gradients), ()
        self.n_step += 1
        if kernel.available("optimizers", *(value for group in self.param_groups for value in group["params"])):
            return self._update(gradients)
        for group in self.param_groups:
            group["grads"] = [next(gradients) for _ in group["params"]]  # where Jittor's own step reads them
        return super().step()

    def _update(self, gradients: Iterator[jt.Var]) -> None:
        """Run the kernel on each parameter; "decay" is multiplied by the group's weight decay."""
        call, state, data = self._call()
        done: list[jt.Var] = []
        for group in self.param_groups:
            own = data | {"decay": data["decay"] * group.get("weight_decay", self.weight_decay)}
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
