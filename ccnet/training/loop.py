"""The loop of a training: steps, log, measurements, checkpoints, and what ends it early."""

import math
import sys
import time
from contextlib import closing
from dataclasses import dataclass

from ccnet import InputError, Restart, parallel, runtime
from ccnet.data.loader import Batches
from ccnet.progress import progress
from ccnet.training.events import Events
from ccnet.training.history import LOG_EVERY
from ccnet.training.interruption import Interruption
from ccnet.training.memory import Growth
from ccnet.training.trainer import Diverged, Trainer
from ccnet.training.validation import Validation
from ccnet.weights.checkpoints import Checkpoints


@dataclass
class Loop:
    """Trains `trainer` to its end; saves to `store` every `interval` seconds and where it must."""

    trainer: Trainer
    batches: Batches
    store: Checkpoints
    validation: Validation | None
    events: Events
    growth: Growth
    interval: float

    def run(self) -> None:
        """Train until `trainer.ended`.

        Raises KeyboardInterrupt after a signal and Restart after memory grew past its limit, both when all is saved;
        InputError for a loss, gradient or weight that is not finite.
        """
        trainer, settings = self.trainer, self.trainer.settings
        bar = progress(
            total=settings.schedule.steps, initial=trainer.done, desc=f"train {settings.model.backbone}", unit="step"
        )
        saved = time.monotonic()
        parallel.wait()  # until here all processes do the same; from here on each tells its own errors
        with Interruption() as interruption, bar, closing(iter(self.batches)) as loaded, self.events:
            self._measure(bar, interruption)  # where an interruption cut it short
            while not trainer.ended:
                self._step(*next(loaded))
                interruption.done = True
                bar.update()
                self._log(bar)
                self._measure(bar, interruption)
                asked, grown = parallel.total([interruption.asked, self.growth.passed()]) > 0
                if time.monotonic() - saved >= self.interval or asked or grown or trainer.ended:
                    self._save()
                    saved = time.monotonic()
                self._leave(asked, grown and not trainer.ended)

    def _step(self, images, labels) -> None:
        trainer = self.trainer
        try:
            trainer.history.add(trainer.step(images, labels), trainer.norm)
        except Diverged as error:
            names = ", ".join(self.batches.names(trainer.done))
            message = f"{error}; its images: {names}; {self._last_good()}"
            raise parallel.common(InputError(message)) from error

    def _due(self) -> Validation | None:
        """The validation, if the network is to be measured after the step in hand."""
        done, steps = self.trainer.done, self.trainer.settings.schedule.steps
        every = self.trainer.settings.validation.validate_every
        return self.validation if every and (done % every == 0 or done == steps) else None

    def _log(self, bar) -> None:
        trainer = self.trainer
        if trainer.done % LOG_EVERY and trainer.done != trainer.settings.schedule.steps and not self._due():
            return
        row = trainer.history.row(trainer.done, trainer.optimizer.lr, trainer.settings.data.images_per_step)
        self.events.row(row)
        self._show(bar)

    def _show(self, bar) -> None:
        row, best = self.trainer.history.rows[-1], self.trainer.history.best()
        text = f"loss {row['loss']:.3f}, lr {row['learning_rate']:.2e}, {row['images_per_second']:.1f} images/s"
        bar.set_postfix_str(text + (f", best mIoU {best['mean_iou']:.3f}" if best else ""))

    def _measure(self, bar, interruption: Interruption) -> None:
        """Measure the network if it is time, and if the step in hand has not been measured."""
        trainer, history, validation = self.trainer, self.trainer.history, self._due()
        if validation is None or not history.rows or history.rows[-1]["mean_iou"] is not None:
            return
        with trainer.measuring():
            found = validation.measure(trainer.model, lambda: interruption.asked)
        history.restart_clock()
        if found is not None and math.isnan(found.mean_iou):
            print("ccnet: val's mIoU is not a number: no pixel of the measured images is labelled", file=sys.stderr)
        elif found is not None:
            trainer.measured(found.mean_iou)
            self.events.row({"step": trainer.done, "mean_iou": found.mean_iou})
            self.events.pictures(trainer.done, found.pictures)
            self._show(bar)

    def _save(self) -> None:
        try:
            self.store.save(self.trainer.checkpoint())
        except Diverged as error:
            raise InputError(f"{error}; {self._last_good()}") from error

    def _last_good(self) -> str:
        newest = self.store.newest()
        return f"the last good checkpoint: {newest}" if newest else "no checkpoint was saved before"

    def _leave(self, asked: bool, grown: bool) -> None:
        done, steps = self.trainer.done, self.trainer.settings.schedule.steps
        if asked or grown:
            parallel.wait()  # until the checkpoint is written
        if asked:
            print(f"ccnet: interrupted; saved at step {done} of {steps}", file=sys.stderr)
            raise KeyboardInterrupt
        if grown:
            print(f"ccnet: memory grew past {self.growth.limit >> 20} MB; saved at step {done} of {steps}, restarting",
                  file=sys.stderr)  # fmt: skip
            runtime.end_compilers()
            raise Restart
