"""Hashes of copies are near and those of other pictures far; the nearest is the one that counting bits finds."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ccnet.data import duplicates
from tests.drawn import picture


def bits(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.unpackbits(first ^ second).sum())


def compressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def cut(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 50, height // 50, width - width // 50, height - height // 50))


COPIES = {
    "compressed": compressed,
    "halved": lambda image: image.resize((image.width // 2, image.height // 2)),
    "darkened": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "cut": cut,
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_near(copy):
    for seed in range(20):
        image = picture(seed).resize((320, 240))
        first, second = (duplicates.difference_hash(each) for each in (image, COPIES[copy](image)))
        assert bits(first, second) <= duplicates.NEAR


def test_other_pictures_are_far():
    hashes = [duplicates.difference_hash(picture(seed)) for seed in range(40)]
    assert min(bits(hashes[i], hashes[j]) for i in range(40) for j in range(i)) > duplicates.NEAR


def test_a_bit_says_that_the_right_neighbour_is_lighter():
    ramp = np.repeat(np.arange(0, 170, 10, np.uint8)[None], 16, axis=0)
    assert ramp.shape == (16, 17)
    hashes = [duplicates.difference_hash(Image.fromarray(each).convert("RGB")) for each in (ramp, ramp[:, ::-1])]
    assert [np.unpackbits(each).mean() for each in hashes] == [1, 0]


def test_the_nearest_is_found_across_blocks(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", 3)
    hashes, others = (
        np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8) for seed, count in ((0, 8), (1, 5))
    )
    hashes[4] = others[2]
    places, distances = duplicates.nearest(hashes, others)
    for row, place, distance in zip(hashes, places, distances, strict=True):
        expected = [bits(row, other) for other in others]
        assert (distance, expected[place]) == (min(expected), min(expected))
    assert (places[4], distances[4]) == (2, 0)


def test_among_themselves_each_is_compared_with_those_before_it(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", 3)
    hashes = np.random.default_rng(0).integers(0, 256, (8, 32), np.uint8)
    hashes[7] = hashes[1]
    places, distances = duplicates.nearest(hashes)
    assert (places[0], distances[0]) == (-1, duplicates.BITS)
    assert (places[7], distances[7]) == (1, 0)
    for row in range(1, 8):
        assert distances[row] == min(bits(hashes[row], other) for other in hashes[:row])


def test_what_occurs_more_than_once():
    assert duplicates.repeated(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]
    assert duplicates.repeated(["a", "b"]) == []
