import os
import signal
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from ccnet import InputError
from ccnet.data.loader import Batches
from ccnet.data.shards import ShardReader, write_shard
from ccnet.settings import Data
from tests import tiny

DATA = Data(
    batch_size=4, accumulate=1, crop_size=32, resize=None, scale=[0.5, 2.0], flip=True, photometric=True,
    max_class_share=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return ShardReader([tiny.shard(folder / "0.h5", range(7)), tiny.shard(folder / "1.h5", range(7, 10))])


def batches(reader, *, data=DATA, first_step=0, steps=12, workers=0, seed=1) -> Batches:
    return Batches(reader, data, seed=seed, first_step=first_step, steps=steps, workers=workers)


def content(loader: Batches) -> list[bytes]:
    return [images.tobytes() + labels.tobytes() for images, labels in loader]


def fail(batch) -> None:
    raise ZeroDivisionError


def test_shapes_and_types(reader):
    images, labels = next(iter(batches(reader)))
    assert (images.shape, images.dtype) == ((4, 3, 32, 32), "uint8")
    assert (labels.shape, labels.dtype) == ((4, 32, 32), "uint8")


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(reader, workers):
    assert content(batches(reader, workers=workers, steps=40)) == content(batches(reader, steps=40))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_later_start_skips_batches_and_nothing_else(reader, workers):
    assert content(batches(reader, first_step=5, workers=workers)) == content(batches(reader))[5:]


def test_accumulated_batches_are_one_large_one(reader):
    parts = replace(DATA, batch_size=2, accumulate=2)
    assert content(batches(reader, data=parts, first_step=5)) == content(batches(reader, first_step=5))


def test_another_seed_gives_other_batches(reader):
    assert content(batches(reader, seed=2))[0] != content(batches(reader))[0]


def test_every_epoch_has_each_image_once_in_its_own_order(reader, monkeypatch):
    seen = []
    monkeypatch.setattr(ShardReader, "__getitem__", lambda self, i: seen.append(int(i)) or tiny.draw(0))
    content(batches(reader, steps=5))  # 20 crops: two epochs of 10 images
    first, second = seen[:10], seen[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_an_image_differs_from_epoch_to_epoch(tmp_path):
    alone = ShardReader([tiny.shard(tmp_path / "one.h5", [0])])
    assert len(set(content(batches(alone, data=replace(DATA, batch_size=1), steps=8)))) == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_fewer_images_than_a_batch(tmp_path, workers):
    few = ShardReader([tiny.shard(tmp_path / "few.h5", range(3))])
    loaded = list(batches(few, steps=5, workers=workers))
    assert [images.shape[0] for images, _ in loaded] == [4] * 5


def test_nothing_left_to_do(reader):
    assert content(batches(reader, first_step=12, workers=2)) == []


def test_a_negative_number_of_workers_is_refused(reader):
    with pytest.raises(InputError, match="workers: -1"):
        batches(reader, workers=-1)


def test_workers_end_with_the_iteration(reader):
    before = set(tiny.children(os.getpid()))
    content(batches(reader, workers=2, steps=3))
    with closing(iter(batches(reader, workers=2))) as loaded:
        next(loaded)
        assert len(set(tiny.children(os.getpid())) - before) == 2
    with pytest.raises(ZeroDivisionError), closing(iter(batches(reader, workers=2))) as loaded:
        list(map(fail, loaded))
    assert set(tiny.children(os.getpid())) <= before


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_damaged_record_is_named_and_no_worker_stays(tmp_path, workers):
    good = [tiny.record(str(seed), *tiny.draw(seed)) for seed in range(6)]
    bad = good[3]._replace(name="scratched", image=good[3].image[:60] + b"\0" * 20 + good[3].image[80:])
    path = tmp_path / "damaged.h5"
    write_shard(path, [*good, bad], class_names=tiny.CLASSES, palette=tiny.PALETTE, split="train")
    before = set(tiny.children(os.getpid()))
    with pytest.raises(InputError, match=r"damaged\.h5: scratched"):
        content(batches(ShardReader([path]), workers=workers))
    assert set(tiny.children(os.getpid())) <= before


def test_signals_to_the_group_are_the_trainers(reader):
    expected = content(batches(reader))
    before = set(tiny.children(os.getpid()))
    found = []
    with closing(iter(batches(reader, workers=2))) as loaded:
        for number, (images, labels) in enumerate(loaded):
            workers = set(tiny.children(os.getpid())) - before
            for worker in workers if number in (2, 5) else ():
                os.kill(worker, {2: signal.SIGINT, 5: signal.SIGTERM}[number])
            found.append(images.tobytes() + labels.tobytes())
            assert len(workers) == 2
            assert all(map(tiny.alive, workers))
    assert found == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_workers_change_nothing_and_are_reported_once(reader, capfd, workers):
    expected = content(batches(reader))
    before = set(tiny.children(os.getpid()))
    found = []
    for images, labels in batches(reader, workers=workers):
        for worker in set(tiny.children(os.getpid())) - before:
            os.kill(worker, signal.SIGKILL)
        found.append(images.tobytes() + labels.tobytes())
    assert found == expected
    assert capfd.readouterr().err.count("died; going on without it") == workers


def test_crops_are_not_all_padding(reader):
    labels = np.concatenate([labels for _, labels in batches(reader)])
    assert set(np.unique(labels)) <= {0, 1, 2, 255}
    assert (labels == 255).mean() < 0.5


def test_devices_share_each_part_of_a_batch(trained):
    reader, data = ShardReader(trained.shards), tiny.settings(batch_size=4, accumulate=2).data
    options = {"seed": 5, "first_step": 0, "steps": 1, "workers": 0}
    whole = Batches(reader, data, **options).batch(3)
    first, second = (Batches(reader, data, **options, share=(k, 2)).batch(3) for k in range(2))
    for all_of_it, one, other in zip(whole, first, second, strict=True):
        assert np.array_equal(all_of_it, np.concatenate([one[:2], other[:2], one[2:], other[2:]]))
    with pytest.raises(InputError, match="batch_size: 4: 3 devices share it: make it a multiple of that"):
        Batches(reader, data, **options, share=(0, 3))
