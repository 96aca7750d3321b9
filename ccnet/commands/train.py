"""`ccnet train`: train a run from shards; write weights.safetensors, history.csv and resumable checkpoints."""

import sys
import time
from contextlib import closing
from pathlib import Path

from ccnet import InputError, parallel, runtime, weights
from ccnet.data.loader import Batches
from ccnet.data.shards import ShardReader
from ccnet.progress import progress
from ccnet.settings import Settings
from ccnet.training import history as log_of
from ccnet.training.interruption import Interruption
from ccnet.training.trainer import Trainer
from ccnet.weights.checkpoints import Checkpoints


@parallel.joined()
def run(
    *,
    settings: Path,
    shards: list[Path],
    checkpoints: Path,
    out: Path,
    history: Path,
    device: str = "auto",
    workers: int = 1,
    checkpoint_every: float = 60,
    changes: list[str] | None = None,
    pretrained: Path | None = None,
) -> None:
    """Train one run to its last step, resuming from its newest checkpoint if there is one.

    A new run starts from the weights in `pretrained`, if given. On SIGINT or SIGTERM the current step is
    finished and saved, then KeyboardInterrupt is raised. Raises InputError for shards without images, invalid settings
    and a loss or weight that is not finite.
    """
    chosen = Settings.read(settings, changes)
    if warning := chosen.warning():
        print(f"ccnet train: warning: {warning}", file=sys.stderr)
    reader = ShardReader(shards)
    if not len(reader):
        raise InputError(f"{shards[0]}: no images in these shards; check dataset.limit and the source")
    runtime.select(device)
    trainer = Trainer(chosen, len(reader.class_names))
    with Checkpoints(checkpoints, f"{chosen.fingerprint()}-{reader.fingerprint}", parallel.RANK == 0) as store:
        trainer.begin(store.load(), pretrained, reader.class_names)
        described = (trainer.model, chosen, reader.class_names, reader.palette, reader.dataset)
        store.description = weights.describe(*described)
        _loop(trainer, reader, store, workers, checkpoint_every)
        if parallel.RANK == 0:
            weights.save(out, *described)
            log_of.write(history, trainer.history)


def _loop(trainer: Trainer, reader: ShardReader, store: Checkpoints, workers: int, checkpoint_every: float) -> None:
    settings, steps = trainer.settings, trainer.settings.schedule.steps
    if trainer.done >= steps:
        return
    batches = Batches(
        reader, settings.data, seed=settings.seed, first_step=trainer.done, steps=steps, workers=workers,
        share=(parallel.RANK, parallel.RANKS),
    )  # fmt: skip
    bar = progress(total=steps, initial=trainer.done, desc=f"train {settings.model.backbone}", unit="step")
    parallel.wait()  # so far all did the same; from now on each tells its own errors
    log, saved = log_of.Log(trainer, bar), time.monotonic()
    with Interruption() as interruption, bar, closing(iter(batches)) as loaded:
        for images, labels in loaded:
            log.add(trainer.step(images, labels))
            interruption.done = True
            asked = parallel.any_of(interruption.asked)
            if time.monotonic() - saved >= checkpoint_every or asked or trainer.done == steps:
                store.save(trainer.checkpoint())
                saved = time.monotonic()
            if asked:
                parallel.wait()  # until the checkpoint is written
                print(f"ccnet: interrupted; saved at step {trainer.done} of {steps}", file=sys.stderr)
                raise KeyboardInterrupt
