"""What config.yaml says of each run: its hyperparameters, and the published weights for its backbone."""

from typing import Any

# Settings that each family ignores, with fixed values, so that changing them does not retrain the family's runs.
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet": {"drop_path": 0.0},
    "van": {"deep_stem": True, "stem_channels": None, "multi_grid": False, "contract_dilation": True},
}


def recipe(config: dict, run: str) -> dict[str, Any]:
    """A run's flat settings: shared, overridden by its family's, then its own, then fixed values its family ignores."""
    own = {"backbone": run} | config["runs"][run]
    shared = {key: value for key, value in config["training"].items() if key not in FAMILIES}
    family = next(family for family in FAMILIES if own["backbone"].startswith(family))
    return shared | config["training"].get(family, {}) | own | FAMILIES[family]


def imagenet(chosen: dict[str, Any]) -> str:
    """The name, in `ccnet weights`, of the ImageNet weights for a recipe's backbone and stem."""
    deep = chosen["backbone"].startswith("resnet") and chosen["deep_stem"]
    return f"imagenet-{chosen['backbone']}" + "-deep" * deep
