"""SGD and AdamW whose steps change the weights in place.

Jittor's own make new weights and new moments at every step: each moves to other memory, which tears holes into what
activations could use, and it takes one thread. State and formulas are Jittor's, which are PyTorch's.
"""

from ccnet.ops import kernel
from ccnet.runtime import jt

SGD_CALL = """
    const optimizers::Sgd sgd = {(float)data["rate"], (float)data["momentum"], (float)data["decay"]};
    optimizers::step(sgd, in0->num, in0_p, in1_p, in2_p);"""
ADAMW_CALL = """
    const optimizers::AdamW adamw = {(float)data["beta1"], (float)data["beta2"], (float)data["eps"],
                                     (float)data["rate"], (float)data["correction"], (float)data["decay"]};
    optimizers::step(adamw, in0->num, in0_p, in1_p, in2_p, in3_p);"""


def _gradients(optimizer, loss: jt.Var) -> list[jt.Var]:
    """Of all parameters, computed; nothing that reads the old weights is left to be done."""
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    gradients = jt.grad(loss, parameters, retain_graph=False)
    jt.sync_all()
    return gradients


def _applies(optimizer) -> bool:
    return kernel.applies("optimizers", *(value for group in optimizer.param_groups for value in group["params"]))


def _in_place(optimizer, gradients: list[jt.Var], call: str, state: tuple[str, ...], data: dict[str, float]) -> None:
    """Run `call` on each parameter, its gradient and its `state`; `data`'s "decay" is times the group's own."""
    left, done = iter(gradients), list[jt.Var]()
    for group in optimizer.param_groups:
        own = data | {"decay": data["decay"] * group.get("weight_decay", optimizer.weight_decay)}
        for p, *values in zip(group["params"], *(group[name] for name in state), strict=True):
            done += kernel.launch("optimizers", call, [(1,)], ["float32"], [p, next(left), *values], own)
    jt.sync(done)


class SGD(jt.optim.SGD):
    """Stochastic gradient descent with momentum and weight decay; its state is "values" of each group."""

    def step(self, loss: jt.Var) -> None:
        """One step down the gradient of `loss`."""
        if not _applies(self):
            return super().step(loss)
        gradients = _gradients(self, loss)
        self.n_step += 1
        data = {"rate": self.lr, "momentum": self.momentum, "decay": 1.0}
        _in_place(self, gradients, SGD_CALL, ("values",), data)


class AdamW(jt.optim.AdamW):
    """Adam with decoupled weight decay; its state is "m" and "values", the moments, of each group."""

    def step(self, loss: jt.Var) -> None:
        """One step down the gradient of `loss`."""
        if not _applies(self):
            return super().step(loss)
        gradients = _gradients(self, loss)
        self.n_step += 1
        beta1, beta2 = self.betas
        data = {"beta1": beta1, "beta2": beta2, "eps": self.eps, "rate": self.lr / (1 - beta1**self.n_step),
                "correction": (1 - beta2**self.n_step) ** 0.5, "decay": self.lr}  # fmt: skip
        _in_place(self, gradients, ADAMW_CALL, ("m", "values"), data)
