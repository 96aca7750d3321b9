"""`ccnet train`: train a run from shards; write weights.safetensors, history.csv and resumable checkpoints."""

import sys
from pathlib import Path
from typing import Any

from ccnet import InputError, parallel, provenance, runtime, weights
from ccnet.data.frequency import class_weights
from ccnet.data.loader import Batches
from ccnet.data.shards import ShardReader
from ccnet.files import check_writable
from ccnet.protocol import Protocol
from ccnet.settings import Settings
from ccnet.training.events import Events
from ccnet.training.loop import Loop
from ccnet.training.memory import Growth
from ccnet.training.trainer import Trainer
from ccnet.training.validation import Validation
from ccnet.weights import Weights
from ccnet.weights.checkpoints import Checkpoints


@parallel.joined()
def run(
    *,
    settings: Path,
    shards: list[Path],
    checkpoints: Path,
    out: Path,
    history: Path,
    val_shards: list[Path] | None = None,
    device: str = "auto",
    workers: int = 1,
    checkpoint_every: float = 60,
    memory_limit: int | None = None,
    changes: list[str] | None = None,
    pretrained: Path | None = None,
) -> None:
    """Train one run to its last step, resuming from its newest checkpoint if there is one.

    A new run starts from the weights in `pretrained`, if given. The weights that `keep` names are written to `out`, the
    others beside it. On SIGINT or SIGTERM the current step is finished and saved, then KeyboardInterrupt is raised.
    Raises InputError for shards without images, invalid settings and a loss, gradient or weight that is not finite;
    Restart if this process holds more than `memory_limit` MB, after saving.
    """
    chosen = Settings.read(settings, changes)
    if warning := chosen.warning():
        print(f"ccnet train: warning: {warning}", file=sys.stderr)
    reader = _opened(shards)
    validation = _validation(val_shards, reader, chosen)
    for path in (out, history):
        check_writable(path)
    chosen_device = runtime.select(device)
    provenance.checkout(Path(provenance.__file__))  # now: it may change while the network is trained
    balance = class_weights(reader, chosen.loss.class_weights) if chosen.loss.class_weights else None
    trainer = Trainer(chosen, len(reader.class_names), balance)
    with Checkpoints(checkpoints, _fingerprint(chosen, reader, validation), parallel.RANK == 0) as store:
        trainer.begin(store.load(), pretrained, reader.class_names)
        protocol = Protocol.at_the_scale_of(reader.sizes, chosen.data.resize)
        network = Weights(trainer.model, chosen, reader.class_names, reader.palette, reader.dataset, protocol=protocol)
        store.description = weights.describe(network)
        batches = Batches(
            reader, chosen.data, seed=chosen.seed, first_step=trainer.done, steps=chosen.schedule.steps,
            workers=workers, share=(parallel.RANK, parallel.RANKS),
        )  # fmt: skip
        events = Events(history.with_name("events"), trainer.done, reader.palette, parallel.RANK == 0)
        growth = Growth(memory_limit and memory_limit * 2**20)
        Loop(trainer, batches, store, validation, events, growth, checkpoint_every).run()
        if parallel.RANK == 0:
            made = provenance.record(device=chosen_device, seed=chosen.seed, seconds=trainer.seconds)
            _write(trainer, network, out, made | {"peak_memory": trainer.peak_memory, "devices": parallel.RANKS})
            trainer.history.write(history)


def _opened(shards: list[Path]) -> ShardReader:
    reader = ShardReader(shards)
    if not len(reader):
        raise InputError(f"{shards[0]}: no images in these shards; check dataset.limit and the source")
    return reader


def _validation(shards: list[Path] | None, reader: ShardReader, settings: Settings) -> Validation | None:
    """None unless the settings ask for it. Raises InputError without shards, or if their classes are others."""
    chosen = settings.validation
    if not chosen.validate_every:
        if chosen.keep == "best" or chosen.patience:
            raise InputError("keep: best and patience need validate_every: say every how many steps")
        return None
    if not shards:
        raise InputError("validate_every needs images of val: name their shards with --val-shards, or make it null")
    val = _opened(shards)
    if val.class_names != reader.class_names:
        raise InputError(f"{shards[0]}: its classes differ from those of {reader.paths[0]}: use shards of one dataset")
    return Validation(val, settings)


def _fingerprint(settings: Settings, reader: ShardReader, validation: Validation | None) -> str:
    """What a checkpoint depends on: settings, training shards and, if they decide on the weights, val shards."""
    parts = [settings.fingerprint(), reader.fingerprint]
    decides = settings.validation.keep == "best" or settings.validation.patience
    return "-".join([*parts, validation.reader.fingerprint] if validation and decides else parts)


def _write(trainer: Trainer, network: Weights, out: Path, made: dict[str, Any]) -> None:
    """Write the weights to keep to `out` and, if the network was measured, the others beside it.

    Both say in `training` how they were `made`, which they are, and the step and mIoU of the best and the last.
    """
    keep, last = trainer.settings.validation.keep, trainer.kept()
    other = {"best": "last", "last": "best"}[keep]
    found = {"last": last, "best": trainer.best or last}
    paths = {name: out.with_name(f"{out.stem}_{name}{out.suffix}") for name in found}
    paths[keep].unlink(missing_ok=True)  # of an earlier training that kept the other
    for path, name in ((paths[other], other), (out, keep)):
        if name == other and trainer.best is None:
            path.unlink(missing_ok=True)  # of an earlier training that was measured
            continue
        weights.load_state(trainer.model, found[name], name)
        training = made | {"kept": name, "measured": trainer.history.summary()}
        weights.save(path, network._replace(training=training))
