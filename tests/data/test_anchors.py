"""Published figures are those of the same classes, and what differs in their protocol is said."""

import pytest

from ccnet.data.anchors import Anchor, comparison, published
from ccnet.data.catalog import DATASETS
from ccnet.protocol import Protocol

ADE20K = DATASETS["ade20k"].class_names
WHOLE = Protocol.checked(keep_ratio=[2048, 512]).record() | {"split": "val", "images": 2000, "prepared": "original"}
MANY = WHOLE | {"scales": [0.5, 1.0], "flip": True}


def figure(mean_iou: str) -> Anchor:
    return next(each for each in published(ADE20K) if each.mean_iou == mean_iou)


@pytest.mark.parametrize("dataset", ["ade20k", "cityscapes", "voc2012", "camvid"])
def test_figures_are_of_the_dataset_with_these_classes(dataset):
    found = published(DATASETS[dataset].class_names)
    assert {each.dataset for each in found} == {dataset}
    assert all(30 < float(each.mean_iou) < 90 and each.source for each in found)
    assert not published(["sky", "road"])
    assert not published(DATASETS[dataset].class_names[::-1])


def test_the_first_reproduction_is_among_them():
    assert [each.mean_iou for each in published(ADE20K) if "Jittor" in each.source] == ["41.72", "41.5"]


def test_the_best_matching_protocol_is_named():
    protocols = {"standard": [WHOLE, WHOLE], "multi_scale": [MANY, MANY]}
    assert comparison(figure("43.97"), protocols) == "Measured like standard."
    assert comparison(figure("45.13"), protocols) == "Measured like multi_scale."


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"split": "test"}, "val split there, test split here"),
        ({"images": 50}, "2000 images there, 50 images here"),
        ({"resize": "original"}, "size keep_ratio (2048, 512) there, size original here"),
        ({"mode": "sliding"}, "whole there, sliding here"),
        ({"scales": [0.5, 1.0]}, "one scale there, several scales here"),
        ({"flip": True}, "one scale there, one scale, mirrored here"),
        ({"prepared": "longest side at most 64"}, "labels prepared with longest side at most 64 here"),
        ({"scored_at": "labels resized alike (nearest)"}, "labels resized here"),
    ],
)
def test_what_differs_in_one_of_the_runs_is_said(changed, words):
    said = comparison(figure("43.97"), {"standard": [WHOLE | changed]})
    assert said == f"Not measured like standard: {words}."
    assert "Not measured like" in comparison(figure("43.97"), {"standard": [WHOLE, WHOLE | changed]})


def test_what_a_source_or_older_metrics_do_not_state_is_no_difference():
    assert comparison(figure("41.72"), {"standard": [WHOLE]}) == "The protocol is not stated."
    said = "Measured like multi_scale, as far as stated. Not stated: resizing, windows."
    assert comparison(figure("45.22"), {"standard": [WHOLE], "multi_scale": [MANY]}) == said
    assert comparison(figure("43.97"), {"standard": [{}]}) == "Measured like standard."
