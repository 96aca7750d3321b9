"""SGD and AdamW with in-place updates.

Jittor's own optimizers allocate new weights and moments at every step, which fragments the memory that activations
need, and update them on one thread. State and formulas are Jittor's, which are PyTorch's.
"""

from collections.abc import Sequence

from ccnet.ops import kernel
from ccnet.runtime import jt

SGD_CALL = """
    const optimizers::Sgd sgd = {(float)data["rate"], (float)data["momentum"], (float)data["decay"]};
    optimizers::step(sgd, in0->num, in0_p, in1_p, in2_p);"""
ADAMW_CALL = """
    const optimizers::AdamW adamw = {(float)data["beta1"], (float)data["beta2"], (float)data["eps"],
                                     (float)data["rate"], (float)data["correction"], (float)data["decay"]};
    optimizers::step(adamw, in0->num, in0_p, in1_p, in2_p, in3_p);"""


def _add_gradients(optimizer, loss: jt.Var) -> None:
    """Add the loss's gradients to `optimizer.gradients` and compute them, so nothing pending reads the old weights."""
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    gradients = jt.grad(loss, parameters, retain_graph=False)
    if optimizer.gradients:
        gradients = [sofar + new for sofar, new in zip(optimizer.gradients, gradients, strict=True)]
    optimizer.gradients = gradients
    jt.sync_all()


def _taken(optimizer, loss: jt.Var | None) -> list[jt.Var]:
    """Return the accumulated gradients plus those of `loss`, and clear them."""
    if loss is not None:
        optimizer.backward(loss)
    gradients, optimizer.gradients = optimizer.gradients, []
    optimizer.n_step += 1
    return gradients


def _handed_over(optimizer, gradients: list[jt.Var]) -> None:
    """Store the gradients in `group["grads"]`, where Jittor's own step reads them."""
    left = iter(gradients)
    for group in optimizer.param_groups:
        group["grads"] = [next(left) for _ in group["params"]]


def _available(optimizer) -> bool:
    return kernel.available("optimizers", *(value for group in optimizer.param_groups for value in group["params"]))


def _in_place(optimizer, gradients: list[jt.Var], call: str, state: tuple[str, ...], data: dict[str, float]) -> None:
    """Run `call` on each parameter, its gradient and its `state`; "decay" is multiplied by the group's weight decay."""
    left, done = iter(gradients), list[jt.Var]()
    for group in optimizer.param_groups:
        own = data | {"decay": data["decay"] * group.get("weight_decay", optimizer.weight_decay)}
        for p, *values in zip(group["params"], *(group[name] for name in state), strict=True):
            done += kernel.launch("optimizers", call, [(1,)], ["float32"], [p, next(left), *values], own)
    jt.sync(done)


class SGD(jt.optim.SGD):
    """Stochastic gradient descent with momentum and weight decay; its state is "values" in each group."""

    gradients: Sequence[jt.Var] = ()
    backward = _add_gradients

    def step(self, loss: jt.Var | None = None) -> None:
        """One update with the gradients accumulated by `backward`, plus those of `loss` if given."""
        gradients = _taken(self, loss)
        if not _available(self):
            _handed_over(self, gradients)
            return super().step()
        data = {"rate": self.lr, "momentum": self.momentum, "decay": 1.0}
        _in_place(self, gradients, SGD_CALL, ("values",), data)


class AdamW(jt.optim.AdamW):
    """Adam with decoupled weight decay; its state is the moments "m" and "values" in each group."""

    gradients: Sequence[jt.Var] = ()
    backward = _add_gradients

    def step(self, loss: jt.Var | None = None) -> None:
        """One update with the gradients accumulated by `backward`, plus those of `loss` if given."""
        gradients = _taken(self, loss)
        if not _available(self):
            _handed_over(self, gradients)
            return super().step()
        beta1, beta2 = self.betas
        data = {"beta1": beta1, "beta2": beta2, "eps": self.eps, "rate": self.lr / (1 - beta1**self.n_step),
                "correction": (1 - beta2**self.n_step) ** 0.5, "decay": self.lr}  # fmt: skip
        _in_place(self, gradients, ADAMW_CALL, ("m", "values"), data)
