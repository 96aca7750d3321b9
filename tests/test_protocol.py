import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet import InputError
from ccnet.protocol import Protocol

SIDES = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("height", "width", "scale", "expected"),
    [  # mmcv's rescale_size: factor min(2048 / long, 512 / short), then int(side * factor + 0.5)
        (512, 683, 1.0, (512, 683)),
        (480, 640, 1.0, (512, 683)),  # 512 / 480: enlarged
        (256, 256, 1.0, (512, 512)),
        (1200, 1600, 1.0, (512, 683)),
        (683, 512, 1.0, (683, 512)),  # upright
        (300, 3000, 1.0, (205, 2048)),  # the long side decides: 2048 / 3000
        (480, 640, 0.5, (256, 341)),  # int(640 · 256 / 480 + 0.5)
        (480, 640, 1.75, (896, 1195)),
        (1, 5000, 1.0, (1, 2048)),  # 0.4096 + 0.5 rounds to nothing: a pixel stays
    ],
)
def test_keep_ratio_gives_the_sizes_of_mmsegmentation(height, width, scale, expected):
    assert Protocol.checked(keep_ratio=[2048, 512]).size((height, width), scale) == expected


@given(SIDES, SIDES)
def test_keep_ratio_fits_and_touches_a_limit(height, width):
    found = Protocol.checked(keep_ratio=[512, 2048]).size((height, width))
    assert max(found) <= 2048
    assert min(found) <= 512
    assert max(found) == 2048 or min(found) == 512


def test_the_other_rules():
    assert Protocol().size((37, 53)) == (37, 53)
    assert Protocol().size((37, 53), 0.5) == (19, 27)
    fixed = Protocol.checked(fixed=[256, 320])
    assert fixed.size((37, 53)) == (256, 320)
    assert fixed.size((37, 53), 1.5) == (384, 480)


def test_defaults_are_the_whole_image_once():
    assert Protocol.checked() == Protocol()
    assert Protocol().record() == {
        "in_words": "Images at their own size, whole, one scale; scored at the labels' own size.",
        "mode": "whole", "window": None, "resize": "original", "resampling": "bilinear, antialiased",
        "scales": [1.0], "flip": False, "average_of": None, "scored_at": "the labels' own size",
    }  # fmt: skip


def test_a_protocol_is_told_in_a_sentence():
    all_of_it = Protocol.checked(keep_ratio=[2048, 512], window=769, scales=[0.5, 1], flip=True)
    record = all_of_it.record()
    assert record["in_words"] == (
        "Images resized to fit within 2048 × 512, aspect kept, windows of 769 pixels every 513, scales 0.5, 1, each"
        " also mirrored (softmax probabilities averaged); scored at the labels' own size."
    )
    assert record["window"] == {"side": 769, "stride": 513, "weights": "falling linearly to the edges"}
    assert (record["mode"], record["resize"]) == ("sliding", "keep_ratio (2048, 512)")
    assert (record["scales"], record["flip"]) == ([0.5, 1.0], True)
    loose = Protocol.checked(fixed=[256, 320], score_at="resized").record()
    assert loose["in_words"] == (
        "Images squashed to 256 × 320 (height × width), whole, one scale; scored on labels resized alike (nearest)."
    )
    assert loose["resize"] == "fixed (256, 320)"


@pytest.mark.parametrize(
    ("sizes", "resize", "sides"),
    [
        ([[480, 360]] * 3, None, (480, 360)),
        ([[400, 600], [500, 375], [90, 100]], None, (500, 375)),  # width, height: the median of the longer sides
        ([[400, 600]], [512, 2048], (2048, 512)),
        ([[20, 30]], None, (32, 32)),
    ],
)
def test_the_protocol_of_any_image_has_the_scale_of_training(sizes, resize, sides):
    assert Protocol.at_the_scale_of(np.array(sizes), resize) == Protocol(keep_ratio=sides)


def test_a_changed_protocol_is_checked():
    assert Protocol(flip=True).changed(window=64) == Protocol(flip=True, window=64)
    with pytest.raises(InputError, match="protocol: window: 8"):
        Protocol().changed(window=8)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"window": 8}, "protocol: window: 8: input should be greater than or equal to 32"),
        ({"scales": [1.0, 0]}, "protocol: scales.1: 0: input should be greater than 0"),
        ({"scales": []}, "protocol: scales: []: tuple should have at least 1 item"),
        ({"scales": [float("nan")]}, "protocol: scales.0: NaN: "),
        ({"keep_ratio": [2048]}, "protocol: keep_ratio.1: "),
        ({"fixed": [0, 256]}, "protocol: fixed.0: 0: "),
        ({"flip": "yes"}, "protocol: flip: \"yes\": "),
        ({"score_at": "label"}, "protocol: score_at: \"label\": input should be 'original' or 'resized'"),
        ({"zoom": 2}, "protocol: zoom: 2: "),
        ({"keep_ratio": [2048, 512], "fixed": [256, 256]}, "protocol: keep_ratio and fixed: "),
        ({"stride": 64}, "protocol: stride: 64: there is no window"),
        ({"window": 64, "stride": 65}, "protocol: stride: 65: more than the window's 64"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_that_says_what_is_allowed(values, said):
    with pytest.raises(InputError) as caught:
        Protocol.checked(**values)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
