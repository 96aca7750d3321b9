"""Runs that differ by their seed alone are one group, whatever weights of another group they begin with."""

from pathlib import Path

import pytest

from ccnet.groups import Group, Spread, grouped, spread
from ccnet.results import Area, Metrics, Run, Step


def run(name: str, seed: int = 0, pretrained: str | None = None, steps: int = 10, **protocol) -> Run:
    settings = {"model.backbone": "van_tiny", "model.pretrained": pretrained, "seed": seed}
    metrics = Metrics(
        mean_iou=0.5,
        pixel_accuracy=None,
        mean_accuracy=0.5,
        per_class={"a": 0.5},
        confusion=[[seed]],
        protocol=protocol,
    )
    return Run(name, Path(name), settings, [Step(step=steps, learning_rate=1, loss=1)], metrics, {})


def names(runs: list[Run]) -> dict[str, list[str]]:
    return {group.name: [run.name for run in group.runs] for group in grouped(runs)}


def test_a_spread_is_the_mean_and_the_sample_standard_deviation():
    assert spread([0.2, None, 0.4, 0.6]) == pytest.approx(Spread(0.4, 0.2))
    assert spread([0.2, None]) == Spread(0.2, None)
    assert spread([None]) == Spread(None, None)


def test_runs_are_grouped_by_their_settings_not_their_names():
    runs = [run("a_seed1", 1), run("b", 1, "f" * 64), run("a_seed2", 2), run("mine", 3)]
    assert names(runs[:3]) == {"a": ["a_seed1", "a_seed2"], "b": ["b"]}
    assert names(runs) == {"a_seed1, a_seed2, mine": ["a_seed1", "a_seed2", "mine"], "b": ["b"]}
    assert names(runs[:1]) == {"a_seed1": ["a_seed1"]}


def test_the_same_seed_twice_is_no_group():
    assert names([run("a"), run("b")]) == {"a": ["a"], "b": ["b"]}


def test_runs_that_begin_with_the_same_seed_of_another_group_are_a_group():
    first = [run(f"a_seed{seed}", seed, weights_sha256=f"{seed}" * 64) for seed in (1, 2)]
    second = [run(f"b_seed{seed}", seed, f"{seed}" * 64, weights_sha256=f"b{seed}" * 32) for seed in (1, 2)]
    third = [run(f"c_seed{seed}", seed, f"b{seed}" * 32) for seed in (1, 2)]
    assert list(names([*third, *first, *second])) == ["c", "a", "b"]
    assert names(second) == {"b_seed1": ["b_seed1"], "b_seed2": ["b_seed2"]}  # of weights unknown here


def test_a_run_that_names_its_own_weights_ends_the_search():
    assert names([run("a", 1, "1" * 64, weights_sha256="1" * 64)]) == {"a": ["a"]}


def test_a_group_tells_what_its_runs_have_in_common():
    group = Group("a", [run("a_seed1", 1, steps=20, flip=True), run("a_seed2", 2, flip=True, window=64)])
    assert group.common(lambda run: run.settings)["seed"] == [1, 2]
    assert group.common(lambda run: run.metrics.protocol) == {"flip": True, "window": [None, 64]}
    assert group.steps() == [10, 20]
    assert group.confusion().tolist() == [[3]]
    assert group.measure("pixel_accuracy") == Spread(None, None)
    assert group.iou("a") == Spread(0.5, 0.0)


def test_areas_are_of_all_runs_together():
    first, second = run("a_seed1", 1), run("a_seed2", 2)
    first.metrics.areas = [Area(area=0.1, intersection=1, union=4, classes=1)]
    second.metrics.areas = [Area(area=0.03, intersection=1, union=2, classes=1),
                            Area(area=0.1, intersection=5, union=8, classes=2)]  # fmt: skip
    assert Group("a", [first, second]).areas() == ([0.03, 0.1], [0.5, 0.5])
