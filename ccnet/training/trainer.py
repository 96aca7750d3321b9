"""One network in training: optimiser steps, its loss, and the state that a checkpoint holds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ccnet import InputError, parallel, provenance, runtime, weights
from ccnet.models import build_from_settings
from ccnet.ops.drop import Drop
from ccnet.ops.normalise import normalise
from ccnet.ops.optimizers import SGD, AdamW, Average
from ccnet.ops.schedule import poly
from ccnet.runtime import jt
from ccnet.settings import Settings
from ccnet.training.history import History
from ccnet.training.objective import Objective
from ccnet.weights import initial
from ccnet.weights.checkpoints import Checkpoint, part_of

Arrays = dict[str, np.ndarray]


class Diverged(InputError):  # noqa: N818
    """A loss, gradient or weight that is not finite."""


class Trainer:
    """A network, its optimiser, the number of steps `done`, and its `history`.

    `norm` is the L2 norm of the last step's gradient, before it was clipped. `average` is the moving average of the
    weights, if the settings ask for one: then it is what is measured and kept. `best` holds the weights that had the
    highest mIoU so far, None before the first measurement.
    """

    def __init__(self, settings: Settings, num_classes: int, class_weights: np.ndarray | None = None):
        runtime.seed(settings.seed)
        self.settings = settings
        self.model = build_from_settings(settings, num_classes)
        self.model.train()
        jt.sync_all()  # Jittor is lazy: draw the initial weights now, whatever follows
        self.drops = [part for part in self.model.modules() if isinstance(part, Drop)]
        self.optimizer = _optimizer(self.model, settings)
        self.objective = Objective(settings.loss, class_weights)
        self.average: Average | None = None
        self.best: Arrays | None = None
        self.done, self.norm, self.history = 0, 0.0, History()
        self._since, self._peak_before = time.monotonic(), 0

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Run one optimiser step on images `(B, 3, S, S)` and labels `(B, S, S)`, uint8; return its loss.

        Gradients are accumulated over `accumulate` parts of the batch. On several devices these are this one's share
        of it, and the loss is that of the whole. Raises Diverged, without changing a weight, if the loss or a gradient
        is not finite.
        """
        settings, schedule = self.settings, self.settings.schedule
        self.optimizer.lr = poly(
            self.done, steps=schedule.steps, base=settings.optimizer.learning_rate, power=schedule.power,
            warmup=schedule.warmup_steps, final=schedule.final_learning_rate,
        )  # fmt: skip
        value = 0.0
        for number, part in enumerate(self.objective.parts(images, labels, settings.data.accumulate)):
            value += self._backward(number, *part)
        value = float(parallel.total(np.float64(value)))
        self.optimizer.gradients = list(map(parallel.summed, self.optimizer.gradients))
        self.norm = self.optimizer.gradient_norm()
        for what, found in (("loss", value), ("gradient's norm", self.norm)):
            if not np.isfinite(found):
                raise self._diverged(f"the {what} is {found}", self.done + 1)
        limit = settings.optimizer.clip_norm
        self.optimizer.step(scale=limit / self.norm if limit and self.norm > limit else 1.0)
        self.done += 1
        if self.average:
            self.average.update(self.model.state_dict(), self.done)
        # Jittor is lazy: deferred work would be fused, and therefore rounded, differently after saving a checkpoint
        jt.sync_all()
        return value

    def _backward(self, number: int, images: np.ndarray, labels: np.ndarray, share: float) -> float:
        """Accumulate the gradients of part of a batch; return its loss times `share`, its share of labelled pixels."""
        # Seeded by step, so that a resumed run drops the same activations as an uninterrupted one; the last number
        # makes the seed differ from the loader's seeds
        generator = np.random.default_rng((self.settings.seed, self.done, number, 0xD409))
        for drop in self.drops:
            drop.generator = generator
        loss = self._loss(normalise(jt.array(images), self.model.mean, self.model.std), jt.array(labels))
        if share != 1:
            loss = loss * share
        self.optimizer.backward(loss)
        return float(loss.item())

    def _loss(self, images: jt.Var, labels: jt.Var) -> jt.Var:
        return self.objective(self.model(images), labels)

    def _diverged(self, what: str, step: int) -> Diverged:
        rate = self.optimizer.lr
        return Diverged(f"{what} at step {step}: lower learning_rate (now {rate:g}), set clip_norm or warm up longer")

    @property
    def seconds(self) -> float:
        """What the training took so far, in this process and in those it continues."""
        return time.monotonic() - self._since

    @property
    def peak_memory(self) -> int:
        """Bytes of this process or of one that it continues, whichever took the most."""
        return max(self._peak_before, provenance.peak_memory())

    @property
    def ended(self) -> bool:
        """Whether the last step is done, or `patience` measurements brought no better mIoU."""
        patience = self.settings.validation.patience
        return self.done >= self.settings.schedule.steps or bool(patience and self.history.stale() >= patience)

    def kept(self) -> Arrays:
        """A copy of the weights to measure and keep: the moving average if there is one, else the network's."""
        if self.average is None:
            return weights.state_arrays(self.model)
        return {name: np.array(value.numpy()) for name, value in self.average.values.items()}

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """The network in eval mode, with the weights to measure; afterwards it trains on as before."""
        own = weights.state_arrays(self.model)
        try:
            weights.load_state(self.model, self.kept(), "average")
            self.model.eval()
            yield
        finally:
            weights.load_state(self.model, own, "own")
            self.model.train()
            jt.sync_all()

    def measured(self, mean_iou: float) -> None:
        """Note the mIoU (0..1) in the last row of the history, and the weights if it is the best so far."""
        self.history.rows[-1]["mean_iou"] = mean_iou
        if self.history.best() is self.history.rows[-1]:
            self.best = self.kept()

    def checkpoint(self) -> Checkpoint:
        """The state that `restore` needs.

        Raises InputError if a weight is not finite. The loss may not show this, since Jittor's ReLU maps NaN to 0.
        """
        model = weights.state_arrays(self.model)
        for name, value in model.items():
            if not np.isfinite(value).all():
                raise self._diverged(f"{name} is not finite", self.done)
        parts = {"model": model, "best": self.best or {}, "average": self.kept() if self.average else {}}
        parts["optimizer"] = {name: np.array(value.numpy()) for name, value in self._optimizer_state().items()}
        state = {f"{part}.{name}": value for part, arrays in parts.items() for name, value in arrays.items()}
        rows, pending = self.history.rows, self.history.pending
        return Checkpoint(self.done, state, rows, pending, self.seconds, self.peak_memory)

    def begin(self, checkpoint: Checkpoint | None, pretrained: Path | None, class_names: list[str]) -> None:
        """Resume from `checkpoint`; without one, start from `pretrained` weights or from scratch.

        A resumed training, too, takes the input normalisation from `pretrained`, and which norms it freezes. Raises
        InputError unless `pretrained` matches the settings.
        """
        named = self.settings.model.pretrained
        if bool(named) != bool(pretrained):
            remedy = "give their file with --pretrained" if named else "set model.pretrained, or leave --pretrained out"
            raise InputError(f"model.pretrained is {named or 'null'}: {remedy}")
        report = initial.start(pretrained, self.model, self.settings.model, class_names) if pretrained else []
        if self.settings.optimizer.ema:
            self.average = Average(self.model.state_dict(), self.settings.optimizer.ema)
        if checkpoint is not None:
            self.restore(checkpoint)
        else:
            print(*report, sep="\n", end="\n" * bool(report), file=sys.stderr)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the model, optimiser, step and history from `checkpoint`, and report the step on stderr.

        Raises InputError if the checkpoint does not fit this model.
        """
        try:
            weights.load_state(self.model, part_of(checkpoint.tensors, "model"), "checkpoint")
            for name, value in self._optimizer_state().items():
                value.assign(jt.array(checkpoint.tensors[f"optimizer.{name}"]))
            for name, value in self.average.values.items() if self.average else ():
                value.assign(jt.array(checkpoint.tensors[f"average.{name}"]))
        except (InputError, KeyError) as error:
            remedy = "delete the run's checkpoints to begin anew"
            raise InputError(
                f"step {checkpoint.step} was saved by another version of ccnet: {error}; {remedy}"
            ) from error
        self.best = part_of(checkpoint.tensors, "best") or None
        self.done, self.history = checkpoint.step, History(checkpoint.history, checkpoint.pending)
        self._since -= checkpoint.seconds
        self._peak_before = checkpoint.peak_memory
        self.optimizer.n_step = checkpoint.step
        jt.sync_all()
        print(f"ccnet: continuing from step {self.done} of {self.settings.schedule.steps}", file=sys.stderr)

    def _optimizer_state(self) -> dict:
        """Optimiser state by name. SGD: "values" (momentum). AdamW: "m" and "values" (first and second moments)."""
        return {
            f"{g}.{slot}.{i}": value
            for g, group in enumerate(self.optimizer.param_groups)
            for slot in ("values", "m")
            for i, value in enumerate(group.get(slot, []))
        }


def _optimizer(model, settings: Settings):
    chosen = settings.optimizer
    trainable = [value for _, value in model.named_parameters() if not value.is_stop_grad()]
    if chosen.name == "sgd":
        return SGD(trainable, chosen.learning_rate, chosen.momentum, chosen.weight_decay)
    matrices = [value for value in trainable if value.ndim > 1]
    vectors = [value for value in trainable if value.ndim <= 1]  # no weight decay, as in VAN's recipe
    groups = [
        {"params": matrices, "weight_decay": chosen.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return AdamW(groups, chosen.learning_rate, betas=(chosen.momentum, 0.999))
