"""PyTorch's side of the benchmark: every case in idiomatic, fast PyTorch."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ccnet import InputError
from ccnet.contenders.inputs import BLIND, CLASSES, PALETTE, SETTINGS, SGD, STEPS, Work, drawn, noise, targets
from ccnet.data import labels
from ccnet.data.augment import augment
from ccnet.data.shards import ShardReader
from ccnet.export import networks

# copies of those in `ccnet.ops.normalise`, which imports Jittor
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))


class Contender:
    """PyTorch with the same weights: one method per kind of case, which returns its `Work`.

    `variant` contains words such as "channels_last", "compile" (torch.compile) and "autocast" (networks in bfloat16),
    or is "files": a loader that reads image files instead of shards. Raises InputError for "cuda" if PyTorch has none.
    """

    flops: int | None = None

    def __init__(self, variant: str, device: str, threads: int):
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError(f"PyTorch {torch.__version__} finds no CUDA here; install one that was built for it")
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True  # Jittor also searches for the fastest cuDNN algorithm
        self.variant, self.device = variant, device
        self.layout = torch.channels_last if "channels_last" in variant else torch.contiguous_format

    def _tensor(self, array: np.ndarray):
        layout = self.layout if array.ndim == 4 else torch.contiguous_format
        return torch.from_numpy(array).to(self.device, memory_format=layout)

    def _noise(self, precision: str, *shape: int):
        """An input; also sets whether TF32 is allowed: only if `precision` is "TF32"."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
        return self._tensor(noise(*shape)).to(torch.bfloat16 if precision == "bfloat16" else torch.float32)

    def _filled(self, module):
        own = {n: tuple(v.shape) for n, v in module.state_dict().items() if not n.endswith("num_batches_tracked")}
        module.load_state_dict({n: torch.from_numpy(drawn(n, s)) for n, s in own.items()}, strict=False)
        if "compile" in self.variant:
            module.compile()
        return module.to(self.device, memory_format=self.layout)

    def _autocast(self):
        return torch.autocast(self.device, torch.bfloat16, enabled="autocast" in self.variant)

    def _timed(self, run: Callable[[], list]) -> Work:
        """`run`, followed by a synchronisation of the GPU."""

        def work():
            found = run()
            if self.device == "cuda":
                torch.cuda.synchronize()
            return found

        return work

    def _network(self, name: str):
        return networks.CCNet(name, CLASSES)

    def matmul(self, size: int, precision: str) -> Work:
        a, b = self._noise(precision, 2, size, size)
        return self._timed(torch.inference_mode()(lambda: [a @ b]))

    def copy(self, size: int) -> Work:
        x = self._noise("float32", size)
        return self._timed(torch.inference_mode()(lambda: [x.clone()]))

    def attention(
        self, block: str, batch: int, channels: int, height: int, width: int, backward: bool, precision: str
    ) -> Work:
        x, dy = (self._noise(precision, batch, channels, height, width) for _ in range(2))
        module = self._filled(networks.PixelAttention(channels, block == "rcca").to(x.dtype))
        x.requires_grad_(backward)
        wanted = [x, *(value for name, value in sorted(module.named_parameters()) if name != BLIND)]

        def both():
            y = module(x)
            return [y.detach(), *torch.autograd.grad(y, wanted, dy)]

        return self._timed(both if backward else torch.inference_mode()(lambda: [module(x)]))

    def inference(self, network: str, size: int, batch: int) -> Work:
        model, x = self._filled(self._network(network)).eval(), self._tensor(noise(batch, 3, size, size))

        def forward():
            with torch.inference_mode(), self._autocast():
                return [model(x)]

        return self._timed(forward)

    def training(self, network: str, size: int, batch: int) -> Work:
        model = self._filled(self._network(network)).train()
        x, y = self._tensor(noise(batch, 3, size, size)), self._tensor(targets(batch, size)).long()
        optimizer = torch.optim.SGD(model.parameters(), **SGD)

        def step():
            optimizer.zero_grad()
            with self._autocast():
                value = loss(model, x, y)
            value.backward()
            optimizer.step()
            return [value.detach()]

        return self._timed(step)

    def loader(self, workers: int, folder: str) -> Work:
        data = SETTINGS.data
        dataset = _Crops(folder, files=self.variant == "files", count=STEPS * data.batch_size)

        def epoch():
            for images, truth in DataLoader(dataset, data.batch_size, num_workers=workers):
                last = [images.permute(0, 3, 1, 2), truth]
            return last

        return epoch

    def label(self, folder: str) -> Work:
        model = self._filled(self._network(SETTINGS.model.backbone)).eval()
        photos = [Image.open(file).convert("RGB") for file in sorted(Path(folder, "photos").iterdir())]
        return torch.inference_mode()(lambda: [self._label(model, photo) for photo in photos])

    def segment(self, folder: str) -> Work:
        name, numbers = SETTINGS.model.backbone, itertools.count()
        saved = f"{folder}/PyTorch {self.variant}.pth"
        torch.save(self._filled(self._network(name)).state_dict(), saved)

        def loop():
            model = self._network(name).eval()
            model.load_state_dict(torch.load(saved))
            model.to(self.device, memory_format=self.layout)
            out = Path(folder, f"PyTorch {self.variant}", str(next(numbers)))
            for file in sorted(Path(folder, "photos").iterdir()):
                self._segment(model, file, out / file.stem)
            return [out]

        return torch.inference_mode()(loop)

    def _segment(self, model, file: Path, out: Path) -> None:
        image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        label = self._label(model, image).numpy()
        labels.save_palette_png(out.with_suffix(".png"), label, PALETTE)
        overlay = Image.blend(image, Image.fromarray(labels.colourise(label, PALETTE)), 0.5)
        overlay.save(f"{out}_overlay.jpg", "JPEG", quality=90)

    def _label(self, model, image: Image.Image):
        x = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] - MEAN) / STD
        return model(x.to(self.device).contiguous(memory_format=self.layout)).argmax(1)[0].byte().cpu()


def loss(model: networks.CCNet, image, labels):
    """Cross entropy plus 0.4 times the auxiliary cross entropy; label 255 is ignored."""
    logits, auxiliary = model(image)
    return F.cross_entropy(logits, labels, ignore_index=255) + 0.4 * F.cross_entropy(
        auxiliary, labels, ignore_index=255
    )


class _Crops(Dataset):
    """The crops of `ccnet.data.loader`, in its order, as a dataset for PyTorch's DataLoader."""

    def __init__(self, folder: str, files: bool, count: int):
        self.reader, self.files, self.count = ShardReader([f"{folder}/train.h5"]), files, count
        self.folder = Path(folder)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(position, len(self.reader))
        number = int(np.random.default_rng((0, epoch, 0x5EED)).permutation(len(self.reader))[place])
        pair = self._decoded(self.reader.names[number]) if self.files else self.reader[number]
        image, label = augment(*pair, SETTINGS.data, np.random.default_rng((0, position)))
        return np.asarray(image), np.asarray(label)

    def _decoded(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        files = self.folder / "photos" / f"{name}.jpg", self.folder / "labels" / f"{name}.png"
        return np.asarray(Image.open(files[0])), np.asarray(Image.open(files[1]))
