"""config.yaml, its schema, the presets and the profiles."""

import copy
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import recipes
import yaml
from snakemake.utils import update_config

from tests.workflow.conftest import ROOT, Workplace

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
errors = runpy.run_path(str(ROOT / "workflow/rules/validation.py"))["errors"]
PRESETS = sorted((ROOT / "workflow/presets").glob("*.yaml"))

WRONG = {
    "traning: {}": "config: traning: unknown key; did you mean 'training'?",
    "training: {lerning_rate: 0.1}": "config: training.lerning_rate: unknown key; did you mean 'learning_rate'?",
    "runs: {van_tiny: {learning_rate: -1}}": (
        "config: runs.van_tiny.learning_rate: -1 is not allowed: must be greater than 0"
    ),
    "runs: {x: {backbone: resnet19}}": (
        "config: runs.x.backbone: 'resnet19' is not allowed: must be one of resnet18, resnet34, resnet50, resnet101,"
        " van_tiny, van_small, van_base, van_large"
    ),
    "runs: {mine: {}}": "config: runs.mine: not a backbone's name, so it needs `backbone:`, one of resnet18, ",
    "runs: {logs: {}}": "config: runs: 'logs' is not allowed: the pipeline keeps its own files under this name",
    "runs: {a/b: {}}": "config: runs: 'a/b' is not allowed: must match ",
    "runs: {resnet18: null, van_tiny: null}": "config: runs: all are removed (null): at least one must stay",
    "training: {van: {learning_rate: 1e-2}}": (
        "config: training.van.learning_rate: '1e-2' is not allowed: must be a number; write 1.0e-2"
    ),
    "training: {steps: '300'}": "config: training.steps: '300' is not allowed: must be a whole number",
    "training: {power: .nan}": "config: training.power: NaN is not allowed: must be a number",
    "training: {scale: [1.0]}": "config: training.scale: [1.0] is not allowed: must have at least 2 items",
    "runs: {van_tiny: {scale: [2.0, 0.5]}}": (
        "config: runs.van_tiny.scale: [2.0, 0.5] is not allowed: the smallest comes first"
    ),
    "training: {steps: 700.0}": "config: training.steps: 700.0 is not allowed: must be a whole number",
    "training: {steps: 2020-01-01}": 'config: training.steps: "2020-01-01" is not allowed: must be a whole number',
    "dataset: {shards: {train: 2.0}}": "config: dataset.shards.train: 2.0 is not allowed: must be a whole number",
    "training: {recurrence: 9}": "config: training.recurrence: 9 is not allowed: must be at most 5",
    "dataset: {shards: {val: 0}}": "config: dataset.shards.val: 0 is not allowed: must be at least 1",
    "dataset: {on_bad_pair: ignore}": (
        "config: dataset.on_bad_pair: 'ignore' is not allowed: must be one of fail, skip"
    ),
    "runs: {van_tiny: {pretrained: {path: w.pth}}}": "config: runs.van_tiny.pretrained.sha256: missing",
    "training: {pretrained: imagnet}": "config: training.pretrained: 'imagnet' is not allowed: must match ^imagenet$",
    "runs: {van_tiny: {pretrained: {}}}": "config: runs.van_tiny.pretrained: must be imagenet, {run: …}, {path: …} or ",
    "runs: {van_tiny: {pretrained: {sha256: SHA}}}": "config: runs.van_tiny.pretrained: must be imagenet, {run: …}, ",
    "runs: {van_tiny: {pretrained: {path: w.safetensors, sha256: SHA}}}": (
        "config: runs.van_tiny.pretrained.sha256: is for published files: leave it out for weights of ccnet"
    ),
    "runs: {van_tiny: {pretrained: {path: 'https://x.org/w.safetensors'}}}": (
        "config: runs.van_tiny.pretrained.path: weights of ccnet are not downloaded: name a file"
    ),
    "runs: {van_tiny: {pretrained: {path: no/w.safetensors}}}": (
        "config: runs.van_tiny.pretrained.path: no such file: no/w.safetensors; name weights that were trained, or {run"
    ),
    "runs: {resnet34: {pretrained: imagenet}}": (
        "config: runs.resnet34.pretrained: imagenet has no resnet34 with a deep stem: set deep_stem: false"
    ),
    "runs: {van_tiny: {pretrained: {run: resnet81}}}": (
        "config: runs.van_tiny.pretrained.run: no run is called resnet81; did you mean 'resnet18'?"
    ),
    "runs: {van_tiny: {pretrained: {run: resnet18}}}": (
        "config: runs.van_tiny.pretrained.run: resnet18 has the backbone resnet18, not van_tiny"
    ),
    "runs: {resnet18: null, van_tiny: {pretrained: {run: resnet18}}}": (
        "config: runs.van_tiny.pretrained.run: no run is called resnet18"
    ),
    "runs: {van_tiny: {pretrained: {run: van_tiny}}}": (
        "config: runs.van_tiny.pretrained.run: the run would begin with its own weights: van_tiny <- van_tiny"
    ),
    "runs: {van_tiny: {seeds: []}}": "config: runs.van_tiny.seeds: [] is not allowed: must have at least 1 item",
    "training: {seeds: [1, 1]}": "config: training.seeds: [1, 1] is not allowed: must not have one twice",
    "training: {van: {seeds: [-1]}}": "config: training.van.seeds.0: -1 is not allowed: must be at least 0",
    "training: {seeds: 3}": "config: training.seeds: 3 is not allowed: must be a list or null",
    "training: {seeds: [2147483648]}": "config: training.seeds.0: 2147483648 is not allowed: must be less than 2147",
    "runs: {van_tiny: {seed: 3, seeds: [1]}}": "config: runs.van_tiny.seeds: beside seed: 3; leave one of them out",
    "runs: {van_tiny: {seeds: [1]}, van_tiny_seed1: {backbone: van_tiny}}": (
        "config: runs.van_tiny_seed1: also the name of a run that van_tiny has by its seeds; rename it"
    ),
    "{training: {seeds: [1]}, runs: {resnet18_seed1: null, van_tiny_seed1: null}}": (
        "config: runs: all are removed (null): at least one must stay"
    ),
    "runs: {van_tiny: {seeds: [1, 2]}, finer: {backbone: van_tiny, pretrained: {run: van_tiny}}}": (
        "config: runs.finer.pretrained.run: van_tiny has no run of seed 0: name one of van_tiny_seed1, van_tiny_seed2"
    ),
    "runs: {van_tiny: {seeds: [1]}, finer: {backbone: van_tiny, seeds: [1, 2, 3], pretrained: {run: van_tiny}}}": (
        "config: runs.finer.pretrained.run: van_tiny has no run of seed 2: name one of van_tiny_seed1"
    ),
    "runs: {van_tiny: {seeds: [1, 2], pretrained: {run: van_tiny}}}": (
        "config: runs.van_tiny.pretrained.run: the run would begin with its own weights: van_tiny_seed1 <- van_tiny"
    ),
    "dataset: {name: cityscapes}": (
        "config: dataset.source: null is not allowed: cityscapes is not downloaded, so name yours"
    ),
    "dataset: {name: facades}": (
        "config: dataset.name: 'facades' is none of streets, camvid, ade20k, cityscapes, voc2012, pascal_context,"
        " coco_stuff, lip, folder; for files of your own, add `layout: folder`"
    ),
    "dataset: {name: camvit}": (
        "config: dataset.name: 'camvit' is none of streets, camvid, ade20k, cityscapes, voc2012, pascal_context,"
        " coco_stuff, lip, folder; did you mean 'camvid'? For files of your own, add `layout: folder`"
    ),
    "dataset: {name: mine, layout: folder}": "config: dataset.source: null is not allowed: folder is not downloaded",
    "dataset: {name: a/b, layout: streets}": "config: dataset.name: 'a/b' is not allowed: must match ",
    "dataset: {name: pretrained, layout: streets}": "config: dataset.name: 'pretrained' is not allowed: the pipeline",
    "dataset: {val_share: 0.2}": "config: dataset.val_share: only for layout folder; streets has its own: must be null",
    "dataset: {name: folder, source: x, val_share: 1}": "config: dataset.val_share: 1 is not allowed: must be less",
    "evaluation: {test: {}}": "config: evaluation: 'test' is not allowed: the pipeline keeps its own files under this",
    "evaluation: {standard: null}": "config: evaluation.standard: null is not allowed: metrics.json is measured by it",
    "evaluation: {standard: {widow: 512}}": "config: evaluation.standard.widow: unknown key; did you mean 'window'?",
    "evaluation: {mine: {scales: [0]}}": "config: evaluation.mine.scales.0: 0 is not allowed: must be greater than 0",
    "evaluation: {mine: {fixed: [8, 256]}}": "config: evaluation.mine.fixed.0: 8 is not allowed: must be at least 32",
    "evaluation: {a/b: {}}": "config: evaluation: 'a/b' is not allowed: must match ",
    "evaluation: {mine: {stride: 64}}": "config: evaluation.mine: stride 64 needs a window of at least as many pixels",
    "evaluation: {mine: {fixed: [64, 64], keep_ratio: [64, 64]}}": (
        "config: evaluation.mine: images are resized by keep_ratio or fixed, not both: make one null"
    ),
    "device: gpu": "config: device: 'gpu' is not allowed: must be one of auto, cpu, cuda",
}


@pytest.mark.parametrize("overlay", WRONG)
def test_a_wrong_value_is_refused_in_one_line_that_says_what_is_allowed(overlay: str):
    config = copy.deepcopy(CONFIG)
    update_config(config, yaml.safe_load(overlay.replace("SHA", "ab" * 32)))
    (line,) = errors(config)
    assert line.startswith(WRONG[overlay])
    assert "\n" not in line


SEEDED = {
    "runs: {van_tiny: {seeds: [3, 1]}}": {"resnet18": 0, "van_tiny_seed3": 3, "van_tiny_seed1": 1},
    "{training: {seeds: [1, 2]}, runs: {van_tiny: {seed: 7}}}": {
        "resnet18_seed1": 1,
        "resnet18_seed2": 2,
        "van_tiny": 7,
    },
    "training: {seeds: [1], van: {seeds: null}}": {"resnet18_seed1": 1, "van_tiny": 0},
    "training: {seed: 5, seeds: [1], van: {seed: 4, seeds: [2]}}": {"resnet18_seed1": 1, "van_tiny_seed2": 2},
    "{training: {seeds: [1, 2]}, runs: {van_tiny: null, resnet18_seed2: null}}": {"resnet18_seed1": 1},
}


@pytest.mark.parametrize("overlay", SEEDED)
def test_a_run_is_repeated_with_the_nearest_seeds_and_goes_by_its_name(overlay: str):
    config = copy.deepcopy(CONFIG)
    update_config(config, yaml.safe_load(overlay))
    assert errors(config) == []
    config["runs"] = recipes.expanded(config)
    chosen = {run: recipes.recipe(config, run) for run in config["runs"]}
    assert {run: recipe["seed"] for run, recipe in chosen.items()} == SEEDED[overlay]
    assert all(run.startswith(recipe["backbone"]) and "seeds" not in recipe for run, recipe in chosen.items())


def test_a_seed_begins_with_the_weights_of_the_same_seed():
    config = copy.deepcopy(CONFIG)
    runs = {
        "van_tiny": {"seeds": [0, 1]},
        "finer": {"backbone": "van_tiny", "seeds": [0, 1], "pretrained": {"run": "van_tiny"}},
        "from_one": {"backbone": "van_tiny", "seeds": [0, 1], "pretrained": {"run": "van_tiny_seed1"}},
        "alone": {"backbone": "van_tiny", "pretrained": {"run": "finer"}},
    }
    update_config(config, {"runs": runs})
    assert errors(config) == []
    config["runs"] = recipes.expanded(config)
    begun = {run: recipes.recipe(config, run)["pretrained"] for run in config["runs"]}
    assert {run: source["run"] for run, source in begun.items() if source} == {
        "finer_seed0": "van_tiny_seed0",
        "finer_seed1": "van_tiny_seed1",
        "from_one_seed0": "van_tiny_seed1",
        "from_one_seed1": "van_tiny_seed1",
        "alone": "finer_seed0",
    }
    assert [runs for runs in recipes.groups(config).values() if len(runs) > 1] == [
        ["van_tiny_seed0", "van_tiny_seed1"], ["finer_seed0", "finer_seed1"], ["from_one_seed0", "from_one_seed1"]
    ]  # fmt: skip


def test_runs_that_differ_by_their_seed_alone_are_a_group_by_any_name():
    config = copy.deepcopy(CONFIG)
    update_config(config, {"runs": {"again": {"backbone": "van_tiny", "seed": 8}, "resnet18": {"seeds": [1, 2]}}})
    config["runs"] = recipes.expanded(config)
    assert recipes.groups(config) == {
        "resnet18": ["resnet18_seed1", "resnet18_seed2"], "van_tiny, again": ["van_tiny", "again"]
    }  # fmt: skip


def test_runs_that_begin_with_each_other_are_all_named():
    config = copy.deepcopy(CONFIG)
    runs = {name: {"backbone": "van_tiny", "pretrained": {"run": other}} for name, other in ("ab", "ba", "ca")}
    update_config(config, {"runs": runs})
    assert errors(config) == [
        "config: runs.a.pretrained.run: the run would begin with its own weights: a <- b <- a",
        "config: runs.b.pretrained.run: the run would begin with its own weights: b <- a <- b",
    ]


def test_all_errors_are_told_at_once_and_nothing_else(workplace: Workplace):
    overlay = workplace.overlay("{device: gpu, workers: -1, runs: {van_tiny: {dropout: 2}}}")
    done = workplace.snakemake("--dry-run", overlays=(overlay,))
    assert done.returncode == 1
    assert done.stderr.count("\nconfig: ") == 3
    assert "Traceback" not in done.stderr


def described(schema: dict, where: str = "") -> Iterator[tuple[str, dict]]:
    """(where, schema) of every key, at any depth."""
    for name, part in {**schema.get("properties", {}), **schema.get("$defs", {})}.items():
        yield f"{where}{name}", part
        yield from described(part, f"{where}{name}.")
    if isinstance(schema.get("additionalProperties"), dict):
        yield f"{where}*", schema["additionalProperties"]
        yield from described(schema["additionalProperties"], f"{where}*.")


def test_the_schema_describes_every_key_and_has_no_defaults():
    parts = dict(described(SCHEMA))
    assert "$defs.hyperparameters.learning_rate" in {f"$defs.{where}" for where in parts}
    assert [where for where, part in parts.items() if "$ref" not in part and not part.get("description")] == []
    assert [where for where, part in parts.items() if "default" in part] == []


def test_the_schema_refuses_unknown_keys_everywhere():
    shared = SCHEMA["$defs"]["hyperparameters"]  # closed where it is used
    for where, part in described(SCHEMA):
        if "properties" in part and part is not shared:
            assert part.get("additionalProperties") is False or part.get("unevaluatedProperties") is False, where


def test_the_config_gives_every_run_every_hyperparameter():
    training = dict(CONFIG["training"])
    families = {name: training.pop(name) for name in ("resnet", "van")}
    for family in families.values():
        assert set(training) | set(family) == set(SCHEMA["$defs"]["hyperparameters"]["properties"])


def test_every_value_of_the_config_has_a_comment():
    lines = (ROOT / "config.yaml").read_text().splitlines()
    assert [line for line in lines if re.match(r"\s*\w+:", line) and " # " not in line] == []


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_plans_a_whole_pipeline(workplace: Workplace, preset: Path):
    values = yaml.safe_load(preset.read_text())
    overlays = [preset]
    if preset.stem in ("cityscapes", "lip"):
        overlays.append(workplace.overlay(f"dataset: {{source: {workplace.folder}}}"))
    jobs = workplace.jobs(overlays=tuple(overlays))
    runs = {job.split()[1] for job in jobs if job.startswith("train_run")}
    expected = {name for name, own in (CONFIG["runs"] | values.get("runs", {})).items() if own is not None}
    assert runs == expected
    assert "write_report" in jobs


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_reads_as_an_experiment(preset: Path):
    header = [line for line in preset.read_text().splitlines() if line.startswith("#")]
    for word in ("Recipe", "Cost", "Score", "Command"):
        assert any(line.startswith(f"# {word}") for line in header)
    assert f"snakemake --configfile workflow/presets/{preset.name}" in "\n".join(header)


def test_the_cluster_profile_names_rules_that_exist():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    for rule in {*profile["set-threads"], *profile["set-resources"]}:
        assert re.search(rf"(rule|as) {rule}\b", rules)


def test_the_cluster_profile_gives_every_rule_on_a_gpu_its_resources():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    bodies = re.split(r"\n(?:use rule \w+ as|rule) ", rules)
    on_gpu = {re.match(r"\w+", body)[0] for body in bodies if re.search(r"\bgpu=", body)}
    assert on_gpu == set(profile["set-threads"]) == set(profile["set-resources"])


def test_the_cluster_profile_neither_hangs_without_accounting_nor_hides_why_a_job_failed():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert profile["slurm-status-command"] == "squeue"  # sacct, the default, never answers without a database
    assert profile["show-failed-logs"] is True  # the default profile is not read beside this one


def test_what_no_node_has_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    too_large = runpy.run_path(str(ROOT / "workflow/rules/cluster.py"))["too_large"]
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = [("train_run", 8, 32000), ("train_run", 8, 32000), ("prepare_shard", 1, 8000)]
    assert list(too_large(asked)) == []  # nobody knows
    (tmp_path / "sinfo").write_text("#!/bin/sh\necho '2 64000'\necho '64+ 31000+'\n")
    (tmp_path / "sinfo").chmod(0o755)
    (line,) = too_large(asked)
    assert line.startswith("warning: train_run asks for 8 cores and 32000 MB, but no node has so much (there are: 2 ")
    assert list(too_large([("train_run", 8, 31000), ("segment_folder", 2, 64000)])) == []


def test_snakemake_finds_nothing_to_criticise(workplace: Workplace):
    done = workplace.snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good condition" in done.stdout + done.stderr


def test_the_rules_are_formatted():
    done = subprocess.run(
        [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
