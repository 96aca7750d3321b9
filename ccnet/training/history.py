"""The log of a training: the progress bar and the rows of history.csv."""

import csv
import time
from pathlib import Path

from tqdm import tqdm

from ccnet.files import atomic
from ccnet.training.trainer import Trainer

LOG_EVERY = 10  # steps between two rows of history.csv


class Log:
    """Updates the progress bar, and appends a row with the mean loss to the history every `LOG_EVERY` steps."""

    def __init__(self, trainer: Trainer, bar: tqdm):
        self.trainer, self.bar = trainer, bar
        self.losses: list[float] = []
        self.since = time.monotonic()

    def add(self, loss: float) -> None:
        self.losses.append(loss)
        self.bar.update()
        done, settings = self.trainer.done, self.trainer.settings
        if done % LOG_EVERY and done != settings.schedule.steps:
            return
        speed = len(self.losses) * settings.data.images_per_step / (time.monotonic() - self.since)
        mean, rate = sum(self.losses) / len(self.losses), self.trainer.optimizer.lr
        self.trainer.history.append({"step": done, "learning_rate": rate, "loss": mean, "images_per_second": speed})
        self.bar.set_postfix_str(f"loss {mean:.3f}, lr {rate:.2e}, {speed:.1f} images/s")
        self.losses, self.since = [], time.monotonic()


def write(path: Path, history: list[dict]) -> None:
    """Write history.csv: a row for each logged step."""
    with atomic(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "learning_rate", "loss", "images_per_second"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
