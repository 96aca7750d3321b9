"""TensorBoard event files of a training."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ccnet.data import labels
from ccnet.data.images import resized
from ccnet.training.validation import Picture

WIDEST = 480  # pixels of a picture's image
TAGS = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "gradient_norm": "train/gradient_norm",
    "images_per_second": "train/images_per_second",
    "mean_iou": "val/mean_iou",
}


class Events:
    """Writes rows of the history and pictures of predictions to `folder`, used as a context manager.

    A resumed training tells TensorBoard to discard what was written after step `done`; one that begins removes
    older event files. A write error, such as a full disk, ends the events with a message, and not the training. With
    `writes` False nothing is written.
    """

    def __init__(self, folder: Path, done: int, palette: labels.Palette, writes: bool = True):
        self.folder, self.done, self.palette, self.writes = folder, done, palette, writes
        self._writer: EventsWriter | None = None

    def __enter__(self) -> Self:
        if self.writes:
            self._attempt(self._open)
        return self

    def __exit__(self, *_) -> None:
        if self._writer:
            self._attempt(self._writer.close)

    def row(self, row: dict) -> None:
        """Write a row of the history."""
        values = {TAGS[key]: value for key, value in row.items() if key in TAGS and value is not None}
        scalars = [summary.scalar(tag, value) for tag, value in values.items()]
        self._write(row["step"], scalars)

    def pictures(self, step: int, pictures: list[Picture]) -> None:
        """Write image, truth and prediction side by side."""
        self._write(step, [summary.image(f"val/{one.name}", self._panel(one), dataformats="HWC") for one in pictures])

    def _panel(self, picture: Picture) -> np.ndarray:
        height, width = picture.truth.shape
        size = (max(1, height * WIDEST // width), WIDEST) if width > WIDEST else (height, width)
        maps = [labels.colourise(label, self.palette) for label in (picture.truth, picture.prediction)]
        return np.concatenate([resized(image, size) for image in (picture.image, *maps)], axis=1)

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob("events.out.tfevents.*") if not self.done else ():
            old.unlink()
        self._writer = EventsWriter(str(self.folder / "events"))
        if self.done:
            self._writer.write_event(Event(step=self.done + 1, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, step: int, summaries: list) -> None:
        writer = self._writer
        if writer is None:
            return
        for each in summaries:
            self._attempt(partial(writer.write_event, Event(step=step, summary=each)))
        self._attempt(writer.flush)

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            print(f"ccnet: {self.folder}: no more events for TensorBoard: {error}", file=sys.stderr)
            self._writer = None
