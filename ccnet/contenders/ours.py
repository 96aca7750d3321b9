"""This project's side of the benchmark: every case on Jittor."""

import itertools
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from ccnet import cli, runtime, weights
from ccnet.contenders.inputs import BLIND, CLASSES, PALETTE, SETTINGS, SGD, STEPS, Work, drawn, noise, targets
from ccnet.data.loader import Batches
from ccnet.data.shards import ShardReader
from ccnet.models import build, build_from_settings
from ccnet.models.ccnet import ATTENTION
from ccnet.ops import flops, optimizers
from ccnet.ops.losses import cross_entropy
from ccnet.predictor import Predictor
from ccnet.runtime import jt


class Contender:
    """This project, on Jittor: one method per kind of case, which returns its `Work`; `flops` per run, if known."""

    flops: int | None = None

    def __init__(self, variant: str, device: str, threads: int):
        self.device = runtime.select(device)

    def _computed(self, *values) -> tuple:
        jt.sync_all(True)
        return values

    def _filled(self, module):
        for name, value in module.state_dict().items():
            value.assign(jt.array(drawn(name, tuple(value.shape))))
        self._computed()
        return module

    def _network(self, name: str, shape: tuple[int, ...], training: bool):
        model = build(name, CLASSES, dropout=0.0)
        model.train() if training else model.eval()
        self.flops = sum(flops.count(model, shape).values()) * (3 if training else 1)
        return self._filled(model)

    def _noise(self, precision: str, *shape: int) -> jt.Var:
        """An input; also sets whether float32 matrix products use TF32: only if `precision` is "TF32"."""
        jt.flags.use_tensorcore = int(precision == "TF32")
        value = jt.array(noise(*shape))
        return value.bfloat16() if precision == "bfloat16" else value

    def matmul(self, size: int, precision: str) -> Work:
        a, b = self._noise(precision, 2, size, size)
        self._computed(a, b)
        self.flops = 2 * size**3
        return lambda: self._computed(jt.matmul(a, b))

    def copy(self, size: int) -> Work:
        x = self._noise("float32", size)
        return lambda: self._computed(x.copy())

    def attention(
        self, block: str, batch: int, channels: int, height: int, width: int, backward: bool, precision: str
    ) -> Work:
        module, shape = ATTENTION[block](channels), (batch, channels, height, width)
        self.flops = sum(flops.count(module, shape).values()) * (3 if backward else 1)
        self._filled(module)
        x, dy = self._computed(*(self._noise(precision, *shape) for _ in range(2)))

        def forward():
            with jt.no_grad():
                return self._computed(module(x))

        wanted = [x, *(value for name, value in sorted(module.named_parameters()) if name != BLIND)]

        def both():
            y = module(x)
            return self._computed(y, *jt.grad((y * dy).sum(), wanted))

        return both if backward else forward

    def inference(self, network: str, size: int, batch: int) -> Work:
        model, x = self._network(network, (batch, 3, size, size), False), jt.array(noise(batch, 3, size, size))

        def forward():
            with jt.no_grad():
                return self._computed(model(x))

        return forward

    def training(self, network: str, size: int, batch: int) -> Work:
        model = self._network(network, (batch, 3, size, size), True)
        x, y = jt.array(noise(batch, 3, size, size)), jt.array(targets(batch, size))
        optimizer = optimizers.SGD([p for p in model.parameters() if not p.is_stop_grad()], **SGD)

        def step():
            logits, auxiliary = model(x)
            loss = cross_entropy(logits, y) + 0.4 * cross_entropy(auxiliary, y)
            optimizer.step(loss)
            return self._computed(loss)

        return step

    def loader(self, workers: int, folder: str) -> Work:
        reader = ShardReader([f"{folder}/train.h5"])

        def epoch():
            batches = Batches(reader, SETTINGS.data, seed=0, first_step=0, steps=STEPS, workers=workers)
            with closing(iter(batches)) as loaded:
                for images, labels in loaded:
                    batch = self._computed(jt.array(images), jt.array(labels))
            return batch

        return epoch

    def label(self, folder: str) -> Work:
        predictor = Predictor(self._filled(build_from_settings(SETTINGS, CLASSES)))
        photos = [np.asarray(Image.open(file)) for file in sorted(Path(folder, "photos").iterdir())]
        return lambda: [jt.array(predictor(photo)) for photo in photos]

    def segment(self, folder: str) -> Work:
        file, numbers = Path(folder, "weights.safetensors"), itertools.count()
        model = self._filled(build_from_settings(SETTINGS, CLASSES))
        names, palette = [f"class {k}" for k in range(CLASSES)], [list(colour) for colour in PALETTE]
        weights.save(file, weights.Weights(model, SETTINGS, names, palette))

        def command():
            out = f"{folder}/ccnet/{next(numbers)}"
            if cli.main(["segment", f"{folder}/photos", "--weights", str(file), "--out", out, "--device", self.device]):
                raise SystemExit(1)
            return [Path(out)]

        return command
