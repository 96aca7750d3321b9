"""A dataset of drawn pictures that differ as photos do, in folders, with its index.json."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from ccnet.data.index import Index, Listed

CLASSES = ["road", "tree", "<b>sky</b> & more", "cat"]
PALETTE = [(128, 64, 128), (107, 142, 35), (70, 130, 180), (220, 20, 60)]
SIZE = (64, 48)


def picture(seed: int) -> Image.Image:
    """Soft random blots: pictures of two seeds have nothing in common."""
    blots = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    return Image.fromarray(blots).resize(SIZE, Image.Resampling.BICUBIC)


def label(seed: int, classes: tuple[int, ...] = (0, 1, 2, 3, 255)) -> np.ndarray:
    """Blocks of 16 × 12 pixels; the first ones have each of the classes."""
    blocks = np.random.default_rng(seed).choice(np.array(classes, np.uint8), (4, 4))
    blocks.flat[: len(classes)] = classes
    return np.kron(blocks, np.ones((SIZE[1] // 4, SIZE[0] // 4), np.uint8))


class Drawn:
    """Pairs in `folder`, listed by `index`, which `write` writes; `train/0` has the image images/train/0.png."""

    def __init__(self, folder: Path, *, train: int = 6, val: int = 4, test: int = 0) -> None:
        self.folder = folder
        counts = {split: count for split, count in (("train", train), ("val", val), ("test", test)) if count}
        pairs: dict[str, list[Listed]] = {split: [] for split in counts}
        self.index = Index(dataset="drawn", class_names=CLASSES, palette=PALETTE, pairs=pairs)
        for split, count in counts.items():
            for number in range(count):
                self.add(split, str(number))

    def add(self, split: str, name: str) -> None:
        """Draw one more pair."""
        seed = sum(map(len, self.index.pairs.values()))
        listed = Listed(name, f"images/{split}/{name}.png", f"labels/{split}/{name}.png")
        for path in listed[1:]:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(self.folder / listed.image)
        self.index.pairs[split].append(listed)
        self.paint(f"{split}/{name}", label(seed))

    def paint(self, pair: str, ids: np.ndarray) -> None:
        """Give a pair another label map."""
        Image.fromarray(ids).save(self.folder / f"labels/{pair}.png")

    def copy(self, pair: str, other: str) -> None:
        """Give a pair the image file of another."""
        shutil.copy(self.folder / f"images/{other}.png", self.folder / f"images/{pair}.png")

    def write(self) -> Path:
        """Write index.json."""
        self.index.write(self.folder / "index.json")
        return self.folder / "index.json"
