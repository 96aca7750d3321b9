import json

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError, weights
from ccnet.attention import Look
from ccnet.commands import evaluate
from ccnet.data.shards import ShardReader, write_shard
from ccnet.files import sha256
from ccnet.mistakes import Mistakes
from ccnet.models import build_from_settings
from ccnet.ops import flops
from ccnet.ops.metrics import ConfusionMatrix
from ccnet.predictor import Predictor
from ccnet.projections import look
from ccnet.protocol import Protocol
from tests import tiny

SIZES = [(48, 40), (20, 33), (31, 7), (1, 1), (97, 64)]  # some below the network's smallest input


def refuse_constants(name: str):
    raise ValueError(f"{name} is no JSON")


def metrics(path) -> dict:
    return json.loads(path.read_text(), parse_constant=refuse_constants)


@pytest.fixture(scope="module")
def records():
    return [tiny.record(f"val {i}", *tiny.draw(100 + i, *size)) for i, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def evaluated(trained, records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    for k in range(2):
        write_shard(folder / f"val-{k}.h5", records[k::2], class_names=tiny.CLASSES, palette=tiny.PALETTE, split="val")
    write_shard(folder / "val.h5", records, class_names=tiny.CLASSES, palette=tiny.PALETTE, split="val")
    evaluate.run(weights_file=trained.weights, shards=[folder / "val-0.h5", folder / "val-1.h5"],
                 out=folder / "metrics.json", examples=folder / "examples")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def predictions(trained, evaluated):
    predict = Predictor(weights.load(trained.weights).model)
    reader = ShardReader([evaluated / "val-0.h5", evaluated / "val-1.h5"])
    return [(name, predict(image), label) for name, (image, label) in zip(reader.names, reader, strict=True)]


def test_metrics_are_those_of_the_predictions(evaluated, predictions):
    """Each figure anew from its definition, pixel set by pixel set."""
    found = metrics(evaluated / "metrics.json")
    counted = [label != 255 for _, _, label in predictions]
    truth = np.concatenate([label[mask] for (_, _, label), mask in zip(predictions, counted, strict=True)])
    guess = np.concatenate([guess[mask] for (_, guess, _), mask in zip(predictions, counted, strict=True)])
    ious, recalls = {}, []
    for k, name in enumerate(tiny.CLASSES):
        true, said = truth == k, guess == k
        ious[name] = (true & said).sum() / (true | said).sum() if (true | said).any() else None
        recalls += [(true & said).sum() / true.sum()] if true.any() else []
    assert found["per_class"] == pytest.approx(ious)
    assert found["mean_iou"] == pytest.approx(np.mean([iou for iou in ious.values() if iou is not None]))
    assert found["pixel_accuracy"] == pytest.approx((truth == guess).mean())
    assert found["mean_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["confusion"] == [[int(((truth == i) & (guess == j)).sum()) for j in range(4)] for i in range(4)]


def test_metrics_say_how_they_were_measured(evaluated, trained):
    found = metrics(evaluated / "metrics.json")
    assert found["protocol"] == {
        "in_words": "Images at their own size, whole, one scale; scored at the labels' own size.",
        "mode": "whole", "window": None, "resize": "original", "resampling": "bilinear, antialiased",
        "scales": [1.0], "flip": False, "average_of": None, "scored_at": "the labels' own size",
        "prepared": "original", "absent_classes": "left out of the mean", "images": 5, "split": "val",
        "weights_sha256": sha256(trained.weights),
    }  # fmt: skip
    assert found["seconds_per_image"] > 0
    fresh = build_from_settings(weights.load(trained.weights).settings, len(tiny.CLASSES))
    assert found["parameters"] == sum(value.numel() for value in fresh.parameters() if not value.is_stop_grad())
    fresh.eval()
    height, width = 32, 39  # the mean is 39 × 29, below the network's smallest input
    assert found["flops"] == {
        "count": sum(flops.count(fresh, (1, 3, height, width)).values()), "height": height, "width": width
    }  # fmt: skip
    assert found["shards"] == {f"val-{k}.h5": sha256(evaluated / f"val-{k}.h5") for k in range(2)}
    provenance = found["provenance"]
    assert provenance["seed"] == weights.load(trained.weights).settings.seed
    assert provenance["device"] in ("cpu", "cuda")
    assert provenance["seconds"] > found["seconds_per_image"]


def test_metrics_say_how_the_weights_were_trained(trained, records, tmp_path):
    network, training = weights.load(trained.weights), {"commit": "ab" * 20, "seconds": 12.5}
    weights.save(tmp_path / "w.safetensors", network._replace(training=training))
    write_shard(tmp_path / "val.h5", records, class_names=tiny.CLASSES, palette=tiny.PALETTE, split="val")
    evaluate.run(weights_file=tmp_path / "w.safetensors", shards=[tmp_path / "val.h5"], out=tmp_path / "m.json")
    assert metrics(tmp_path / "m.json")["training"] == training


@pytest.mark.parametrize(
    ("options", "score_size", "seen"),
    [
        ({"keep_ratio": [90, 40], "window": 32, "scales": [1.0, 1.5], "flip": True}, None, (32, 32)),
        ({"fixed": [40, 56], "score_at": "resized"}, (40, 56), (40, 56)),
    ],
)
def test_another_protocol_is_measured_where_it_says(trained, evaluated, tmp_path, options, score_size, seen):
    files = {"out": tmp_path / "m.json", "examples": tmp_path / "examples"}
    evaluate.run(weights_file=trained.weights, shards=[evaluated / "val.h5"], **files, **options)
    with Image.open(tmp_path / "examples/val 0.png") as example:
        assert example.size == SIZES[0]  # as the image, for the report
    found, protocol = metrics(tmp_path / "m.json"), Protocol.checked(**options)
    predict = Predictor(weights.load(trained.weights).model, protocol)
    confusion = ConfusionMatrix(len(tiny.CLASSES))
    for image, label in ShardReader([evaluated / "val.h5"]):
        if score_size:  # the nearest pixel of each place, by hand
            rows, columns = ((np.arange(n) + 0.5) * m // n for n, m in zip(score_size, label.shape, strict=True))
            label = label[rows.astype(int)[:, None], columns.astype(int)]
        confusion.update(predict(image, label.shape), label)
    assert found["confusion"] == confusion.counts.tolist()
    assert (found["flops"]["height"], found["flops"]["width"]) == seen
    assert found["protocol"].items() >= protocol.record().items()


def test_a_wrong_protocol_costs_no_time(trained, tmp_path):
    with pytest.raises(InputError, match="stride: 9: there is no window"):
        evaluate.run(weights_file=trained.weights, shards=[tmp_path / "none.h5"], out=tmp_path / "m.json", stride=9)


@pytest.mark.parametrize(
    ("max_sizes", "words"),
    [([None, None], "original"), ([640, 640], "longest side at most 640"),
     ([None, 64], "original+longest side at most 64")],
)  # fmt: skip
def test_metrics_say_when_prepare_shrank_the_images(max_sizes, words):
    assert evaluate._prepared(max_sizes) == words


def test_the_network_learnt_something(evaluated):
    assert metrics(evaluated / "metrics.json")["pixel_accuracy"] > 0.5


def test_examples_are_palette_pngs_of_the_predictions(evaluated, predictions):
    assert {path.name for path in (evaluated / "examples").glob("*.png")} == {f"{name}.png" for name, *_ in predictions}
    for name, prediction, _ in predictions:
        with Image.open(evaluated / "examples" / f"{name}.png") as image:
            assert image.mode == "P"
            assert image.getpalette()[: 3 * len(tiny.PALETTE)] == list(np.ravel(tiny.PALETTE))
            np.testing.assert_array_equal(np.asarray(image), prediction)


def test_attention_is_kept_beside_the_examples(trained, evaluated, predictions):
    assert {path.stem for path in (evaluated / "examples").glob("*.npz")} == {name for name, *_ in predictions}
    reader = ShardReader([evaluated / "val.h5"])
    image, _ = reader[reader.names.index("val 0")]
    expected = look(weights.load(trained.weights).model, image, image.shape[:2])
    found = Look.load(evaluated / "examples/val 0.npz")
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.maps(0, 0), expected.maps(0, 0), atol=1e-2)


def test_mistakes_are_those_of_the_predictions(evaluated, predictions):
    mistakes = Mistakes(len(tiny.CLASSES))
    for number, (_, prediction, label) in enumerate(predictions):
        own = ConfusionMatrix(len(tiny.CLASSES))
        own.update(prediction, label)
        mistakes.add(number, own.counts)
    found = metrics(evaluated / "metrics.json")
    assert found["areas"] == mistakes.by_area()
    names = [name for name, *_ in predictions]
    assert found["confused"] == [
        {"truth": tiny.CLASSES[truth], "prediction": tiny.CLASSES[guess], "images": [names[image] for image in images]}
        for truth, guess, images in mistakes.most_confused(evaluate.PAIRS)
    ]
    assert found["confused"]


@pytest.mark.parametrize("case", ["windows", "no attention", "too large"])
def test_attention_is_kept_only_where_a_page_can_show_it(trained, evaluated, tmp_path, monkeypatch, case):
    path, options = trained.weights, {}
    if case == "windows":
        options = {"window": 32}
    elif case == "too large":
        monkeypatch.setattr(evaluate, "LARGEST_LOOK", 100)
    else:
        path, settings = tmp_path / "w.safetensors", tiny.settings(recurrence=0)
        model = build_from_settings(settings, len(tiny.CLASSES))
        weights.save(path, weights.Weights(model, settings, tiny.CLASSES, tiny.PALETTE))
    files = {"out": tmp_path / "m.json", "examples": tmp_path / "examples"}
    evaluate.run(weights_file=path, shards=[evaluated / "val.h5"], **files, **options)
    assert {path.suffix for path in (tmp_path / "examples").iterdir()} == {".png"}


def test_the_best_the_median_and_the_worst_image_are_kept(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "EXAMPLES", 1)
    drawn = [tiny.draw(100 + number) for number in range(4)]
    records = [tiny.record(f"val {number}", *each) for number, each in enumerate(drawn)]
    records.append(tiny.record("void", drawn[0][0], np.full_like(drawn[0][1], 255)))
    write_shard(tmp_path / "v.h5", records, class_names=tiny.CLASSES, palette=tiny.PALETTE, split="val")
    files = {"out": tmp_path / "m.json", "examples": tmp_path / "examples"}
    evaluate.run(weights_file=trained.weights, shards=[tmp_path / "v.h5"], **files)
    predict, ious = Predictor(weights.load(trained.weights).model), {}
    for number, (image, label) in enumerate(drawn):
        own = ConfusionMatrix(len(tiny.CLASSES))
        own.update(predict(image), label)
        ious[f"val {number}"] = own.mean_iou()
    order = sorted(ious, key=ious.__getitem__)
    expected = {"best": order[3], "median": order[1], "worst": order[0]}
    found = metrics(tmp_path / "m.json")["extremes"]
    assert found == {kind: {"name": name, "mean_iou": pytest.approx(ious[name])} for kind, name in expected.items()}
    kept = {path.stem for path in (tmp_path / "examples").glob("*.png")}
    confused = {name for pair in metrics(tmp_path / "m.json")["confused"] for name in pair["images"]}
    assert kept == {"val 0", *expected.values(), *confused}


def test_images_without_a_figure_are_no_extremes():
    assert evaluate.extremes([float("nan"), 0.5, 0.2]) == {"best": 1, "median": 2, "worst": 2}
    assert evaluate.extremes([float("nan")]) == {}


def test_shards_are_only_a_way_of_storing(evaluated, trained, tmp_path):
    evaluate.run(weights_file=trained.weights, shards=[evaluated / "val.h5"], out=tmp_path / "one.json")
    one, two = metrics(tmp_path / "one.json"), metrics(evaluated / "metrics.json")
    timed = {"seconds_per_image": 0, "provenance": None, "shards": None}
    assert one | timed == two | timed
    assert not list(tmp_path.glob("*.png"))


def test_other_classes_are_refused_naming_where_they_part(trained, records, tmp_path):
    path = tmp_path / "other.h5"
    names = [*tiny.CLASSES[:3], "goat"]
    write_shard(path, records[:1], class_names=names, palette=tiny.PALETTE, split="val")
    with pytest.raises(InputError, match=r"weights\.safetensors: .*class 3 is 'sheep' there and 'goat' here"):
        evaluate.run(weights_file=trained.weights, shards=[path], out=tmp_path / "metrics.json")
    write_shard(path, [], class_names=names[:3], palette=tiny.PALETTE[:3], split="val")
    with pytest.raises(InputError, match=r"no images in these shards"):
        evaluate.run(weights_file=trained.weights, shards=[path], out=tmp_path / "metrics.json")
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            ["wall", "door", "floor"],
            "trained on 4 classes, where the shards have 3; class 3 is 'sheep' there and nothing",
        ),
        ([*tiny.CLASSES, "cat"], "where the shards have 5; class 4 is nothing there and 'cat' here"),
    ],
)
def test_lists_of_different_length_part_somewhere(found, words):
    assert words in evaluate._difference(tiny.CLASSES, found)


def test_nothing_to_divide_by_is_null():
    nothing = evaluate.summary(ConfusionMatrix(2), ["a", "b"])
    assert nothing["mean_iou"] is nothing["pixel_accuracy"] is nothing["mean_accuracy"] is None
    assert nothing["per_class"] == {"a": None, "b": None}


def test_a_split_of_ignored_pixels_has_no_figures(trained, tmp_path, capsys):
    image, label = tiny.draw(0)
    path = tmp_path / "void.h5"
    void = [tiny.record("void", image, np.full_like(label, 255))]
    write_shard(path, void, class_names=tiny.CLASSES, palette=tiny.PALETTE, split="val", max_size=48)
    evaluate.run(weights_file=trained.weights, shards=[path], out=tmp_path / "metrics.json")
    assert metrics(tmp_path / "metrics.json")["mean_iou"] is None
    assert metrics(tmp_path / "metrics.json")["protocol"]["prepared"] == "longest side at most 48"
    assert "mIoU nan" in capsys.readouterr().out
