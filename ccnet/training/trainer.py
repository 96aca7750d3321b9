"""One network in training: optimiser steps, its loss, and the state that a checkpoint holds."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ccnet import InputError, parallel, runtime, weights
from ccnet.data.labels import IGNORE
from ccnet.models import build_from_settings
from ccnet.ops.drop import Drop
from ccnet.ops.losses import category_consistent, cross_entropy, ohem
from ccnet.ops.normalise import normalise
from ccnet.ops.optimizers import SGD, AdamW
from ccnet.ops.schedule import poly
from ccnet.runtime import jt
from ccnet.settings import Settings
from ccnet.weights import initial
from ccnet.weights.checkpoints import Checkpoint, of_model


class Trainer:
    """A network, its optimiser and the number of steps `done`. `history` has a row per logged step."""

    def __init__(self, settings: Settings, num_classes: int):
        runtime.seed(settings.seed)
        self.settings = settings
        self.model = build_from_settings(settings, num_classes)
        self.model.train()
        jt.sync_all()  # Jittor is lazy: draw the initial weights now, whatever follows
        self.drops = [part for part in self.model.modules() if isinstance(part, Drop)]
        self.optimizer = _optimizer(self.model, settings)
        self.loss = _main_loss(settings)
        self.done, self.history = 0, []  # type: int, list[dict]

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Run one optimiser step on images `(B, 3, S, S)` and labels `(B, S, S)`, uint8; return its loss.

        On several devices these are this one's share of the batch, and the loss is that of the whole.

        Gradients are accumulated over `accumulate` parts of the batch. Raises InputError if the loss is not finite.
        """
        settings, schedule = self.settings, self.settings.schedule
        self.optimizer.lr = poly(
            self.done, steps=schedule.steps, base=settings.optimizer.learning_rate, power=schedule.power,
            warmup=schedule.warmup_steps, final=schedule.final_learning_rate,
        )  # fmt: skip
        value = 0.0
        for number, part in enumerate(_parts(images, labels, settings.data.accumulate)):
            value += self._backward(number, *part)
        self.optimizer.gradients = list(map(parallel.summed, self.optimizer.gradients))
        self.optimizer.step()
        # Jittor is lazy: deferred work would be fused, and therefore rounded, differently after saving a checkpoint
        jt.sync_all()
        self.done += 1
        value = float(parallel.total(np.float64(value)))
        if not np.isfinite(value):
            raise parallel.common(self._diverged(f"the loss is {value}"))
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

    def _diverged(self, what: str) -> InputError:
        rate = self.optimizer.lr
        return InputError(f"{what} at step {self.done}: lower learning_rate (now {rate:g}) or warm up longer")

    def _loss(self, images, labels):
        settings = self.settings.loss
        logits, auxiliary, *embedding = self.model(images)
        loss = self.loss(logits, labels)
        if settings.auxiliary_weight:
            loss = loss + settings.auxiliary_weight * cross_entropy(auxiliary, labels)
        if settings.category_consistency:
            loss = loss + settings.category_consistency * category_consistent(embedding[0], labels)
        return loss

    def checkpoint(self) -> Checkpoint:
        """The state that `restore` needs.

        Raises InputError if a weight is not finite. The loss may not show this, since Jittor's ReLU maps NaN to 0.
        """
        model = weights.state_arrays(self.model)
        for name, value in model.items():
            if not np.isfinite(value).all():
                raise self._diverged(f"{name} is not finite")
        state = {f"optimizer.{name}": np.array(value.numpy()) for name, value in self._optimizer_state().items()}
        return Checkpoint(self.done, state | {f"model.{name}": value for name, value in model.items()}, self.history)

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
        if checkpoint is not None:
            self.restore(checkpoint)
        else:
            print(*report, sep="\n", end="\n" * bool(report), file=sys.stderr)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the model, optimiser, step and history from `checkpoint`, and report the step on stderr.

        Raises InputError if the checkpoint does not fit this model.
        """
        try:
            weights.load_state(self.model, of_model(checkpoint.tensors), "checkpoint")
            for name, value in self._optimizer_state().items():
                value.assign(jt.array(checkpoint.tensors[f"optimizer.{name}"]))
        except (InputError, KeyError) as error:
            remedy = "delete the run's checkpoints to begin anew"
            raise InputError(
                f"step {checkpoint.step} was saved by another version of ccnet: {error}; {remedy}"
            ) from error
        self.done, self.history = checkpoint.step, checkpoint.history
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


def _main_loss(settings: Settings) -> Callable[[jt.Var, jt.Var], jt.Var]:
    chosen = settings.loss
    if chosen.name == "ohem":
        return partial(ohem, threshold=chosen.ohem_threshold, keep=chosen.ohem_keep)
    return cross_entropy


def _parts(images: np.ndarray, labels: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Split a batch into `count` equal parts; yield each with its share of the labelled pixels of all devices.

    Cross entropy is a mean over labelled pixels, so the parts' losses weighted by their shares sum to the batch's loss.
    OHEM and the category consistent loss see each device's part alone.
    """
    if count == parallel.RANKS == 1:
        yield images, labels, 1.0
        return
    size = len(images) // count
    counted = (labels != IGNORE).reshape(count, -1).sum(axis=1)
    of_all = max(parallel.total(counted).sum(), 1)
    for number, pixels in enumerate(counted):
        part = slice(number * size, (number + 1) * size)
        yield images[part], labels[part], float(pixels / of_all)


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
