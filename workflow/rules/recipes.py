"""What config.yaml says of each run: its hyperparameters, its seeds, and the published weights for its backbone."""

import json
from collections import Counter
from typing import Any

# Settings that each family ignores, with fixed values, so that changing them does not retrain the family's runs.
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet": {"drop_path": 0.0},
    "van": {"deep_stem": True, "stem_channels": None, "multi_grid": False, "contract_dilation": True},
}


def recipe(config: dict, run: str) -> dict[str, Any]:
    """A run's flat settings: shared, overridden by its family's, then its own, then fixed values its family ignores."""
    shared, family, own = _layers(config, run)
    chosen = shared | family | own | FAMILIES[_family(own)]
    return {key: value for key, value in chosen.items() if key != "seeds"}


def _layers(config: dict, run: str) -> tuple[dict, dict, dict]:
    """What all runs' recipe, that of the run's family, and the run itself say."""
    own = {"backbone": run} | config["runs"][run]
    shared = {key: value for key, value in config["training"].items() if key not in FAMILIES}
    return shared, config["training"].get(_family(own), {}), own


def _family(own: dict) -> str:
    return next(family for family in FAMILIES if own["backbone"].startswith(family))


def named(config: dict, run: str) -> dict[str, int]:
    """The runs that one in the config stands for, with their seeds: itself, or one for each of its `seeds`.

    What counts is the last of shared recipe, family's and run's own that says `seed` or `seeds`. A name that the config
    removes (null) is left out.
    """
    seeds = None
    for layer in _layers(config, run):
        if "seed" in layer or "seeds" in layer:
            seeds = layer.get("seeds")
    if seeds is None:
        return {run: recipe(config, run)["seed"]}
    names = {f"{run}_seed{seed}": seed for seed in seeds}
    return {name: seed for name, seed in names.items() if config["runs"].get(name, {}) is not None}


def expanded(config: dict) -> dict[str, dict[str, Any]]:
    """The config's `runs` with one for each of a run's seeds, and without removed (null) ones."""
    members = {run: named(config, run) for run, own in config["runs"].items() if own is not None}
    return {
        name: {"backbone": run} | config["runs"][run] | {"seed": seed} | _of_that_seed(config, run, seed, members)
        for run, names in members.items()
        for name, seed in names.items()
    }


def _of_that_seed(config: dict, run: str, seed: int, members: dict[str, dict[str, int]]) -> dict[str, Any]:
    """`pretrained` of a run that begins with one of several seeds: the run with the same seed, if there is one."""
    source = recipe(config, run)["pretrained"]
    other = source.get("run", "") if isinstance(source, dict) else ""
    same = f"{other}_seed{seed}"
    return {"pretrained": {"run": same}} if same in members.get(other, {}) else {}


def groups(config: dict) -> dict[str, list[str]]:
    """The runs of an expanded config that differ by their seed alone, by their common name or all their names.

    The same settings with the same seed again begin another group.
    """
    found: dict[tuple[str, int], list[str]] = {}
    seen: Counter[tuple[str, int]] = Counter()
    for run in config["runs"]:
        own = _but_for_seed(config, run), recipe(config, run)["seed"]
        found.setdefault((own[0], seen[own]), []).append(run)
        seen[own] += 1
    return {_common_name(config, runs): runs for runs in found.values()}


def _but_for_seed(config: dict, run: str) -> str:
    """A run's recipe without its seed, nor that of the run whose weights it begins with."""
    chosen = recipe(config, run) | {"seed": None}
    source = chosen["pretrained"]
    if isinstance(source, dict) and "run" in source:
        chosen["pretrained"] = _but_for_seed(config, source["run"])
    return json.dumps(chosen, sort_keys=True)


def _common_name(config: dict, runs: list[str]) -> str:
    names = {run.removesuffix(f"_seed{recipe(config, run)['seed']}") for run in runs}
    return names.pop() if len(names) == 1 < len(runs) else ", ".join(runs)


def imagenet(chosen: dict[str, Any]) -> str:
    """The name, in `ccnet weights`, of the ImageNet weights for a recipe's backbone and stem."""
    deep = chosen["backbone"].startswith("resnet") and chosen["deep_stem"]
    return f"imagenet-{chosen['backbone']}" + "-deep" * deep
