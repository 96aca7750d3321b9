"""SGD and AdamW whose steps change the weights in place.

Jittor's own make new weights and new moments at every step: each moves to other memory, which tears holes into what
activations could use, and it takes one thread. State and formulas are Jittor's, which are PyTorch's.
"""

from ccnet.ops import kernel
from ccnet.runtime import jt

SGD_CALL = """
    optimizers::sgd(in0->num, in0_p, in1_p, in2_p, data["rate"], data["momentum"], data["decay"]);"""
ADAMW_CALL = """
    optimizers::adamw(in0->num, in0_p, in1_p, in2_p, in3_p, data["first"], data["second"], data["eps"], data["step"],
                      data["spread"], data["decay"]);"""


def _gradients(optimizer, loss: jt.Var) -> dict[int, jt.Var]:
    """By the identity of their parameter, computed; nothing that reads the old weights is left to be done."""
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    gradients = jt.grad(loss, parameters, retain_graph=False)
    jt.sync_all()
    return dict(zip(map(id, parameters), gradients, strict=True))


def _in_place(call: str, inputs: list[jt.Var], data: dict[str, float]) -> jt.Var:
    return kernel.launch("optimizers", call, [(1,)], ["float32"], inputs, data)[0]


class SGD(jt.optim.SGD):
    """Stochastic gradient descent with momentum and weight decay; its state is "values" of each group."""

    def step(self, loss: jt.Var) -> None:
        """One step down the gradient of `loss`."""
        if not kernel.applies("optimizers", *(p for group in self.param_groups for p in group["params"])):
            return super().step(loss)
        gradients, done = _gradients(self, loss), []
        self.n_step += 1
        for group in self.param_groups:
            data = {"rate": self.lr, "momentum": self.momentum, "decay": group.get("weight_decay", self.weight_decay)}
            for p, v in zip(group["params"], group["values"], strict=True):
                done.append(_in_place(SGD_CALL, [p, gradients.pop(id(p)), v], data))
        jt.sync(done)


class AdamW(jt.optim.AdamW):
    """Adam with decoupled weight decay; its state is "m" and "values", the moments, of each group."""

    def step(self, loss: jt.Var) -> None:
        """One step down the gradient of `loss`."""
        if not kernel.applies("optimizers", *(p for group in self.param_groups for p in group["params"])):
            return super().step(loss)
        gradients, done = _gradients(self, loss), []
        self.n_step += 1
        first, second = self.betas
        data = {"first": first, "second": second, "eps": self.eps, "step": self.lr / (1 - first**self.n_step),
                "spread": (1 - second**self.n_step) ** 0.5}  # fmt: skip
        for group in self.param_groups:
            data["decay"] = self.lr * group.get("weight_decay", self.weight_decay)
            for p, m, v in zip(group["params"], group["m"], group["values"], strict=True):
                done.append(_in_place(ADAMW_CALL, [p, gradients.pop(id(p)), m, v], data))
        jt.sync(done)
