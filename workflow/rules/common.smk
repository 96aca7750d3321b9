# Values that the rules derive from the config, and shared helper functions.
import csv
import hashlib
import json
import mimetypes
import os
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import recipes

DATASET = config["dataset"]["name"]
LAYOUT = config["dataset"]["layout"] or DATASET
RUNS = list(config["runs"])
# All protocols except the standard one.
FURTHER = [
    name
    for name, protocol in config["evaluation"].items()
    if protocol is not None and name != "standard"
]
RESULTS = Path("results").resolve()


def inside(folder, other):
    return Path(folder).resolve().is_relative_to(other)


def available(folder):
    """Whether a folder exists for this dataset: below the results, only folders that fetch creates for it do."""
    fetched = LAYOUT != "streets" or config["dataset"]["source"] is None
    return not inside(folder, RESULTS) or (
        fetched and inside(folder, RESULTS / DATASET / "source")
    )


FOLDERS = {
    name: str(Path(path).expanduser())
    for name, path in config["segment"].items()
    if path is not None and available(Path(path).expanduser())
}

# Put the commands of Snakemake's environment on the path, even if it is not activated.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)


wildcard_constraints:
    dataset=re.escape(DATASET),
    run="|".join(map(re.escape, RUNS)),
    folder="|".join(map(re.escape, FOLDERS)) or "(?!)",
    protocol="|".join(map(re.escape, FURTHER)) or "(?!)",
    split="train|val|test",
    shard=r"\d+",
    shards=r"\d+",
    backbone=r"\w+",
    imagenet=r"imagenet-[\w-]+",
    digest="[0-9a-f]{12}",


def recipe(run):
    """A run's flat settings."""
    return recipes.recipe(config, run)


def settings(run):
    """A run's recipe without the weights it begins with, which `ccnet settings` names by their SHA-256."""
    return recipe(run) | {"pretrained": None}


def pretrained(run):
    """The file of weights that a run begins with; [] if it is trained from scratch.

    The name of imported weights identifies them; others change when they are trained again.
    """
    chosen = recipe(run)
    source = chosen["pretrained"]
    if source is None:
        return []
    if source == "imagenet":
        return ancient(f"results/pretrained/{recipes.imagenet(chosen)}.safetensors")
    if "run" in source:
        return f"results/{DATASET}/{source['run']}/weights.safetensors"
    if "sha256" in source:
        name = f"{chosen['backbone']}-{source['sha256'][:12]}"
        return ancient(f"results/pretrained/{name}.safetensors")
    return expanded(source["path"])


# Imported weights -> their source, {path: …, sha256: …}.
PRETRAINED = {
    str(pretrained(run)): recipe(run)["pretrained"]
    for run in RUNS
    if "sha256" in (recipe(run)["pretrained"] or {})
}


def shards(*splits):
    """The shard files of these splits, in order."""
    count = config["dataset"]["shards"]
    return [
        f"results/{{dataset}}/shards/{split}-{shard}-of-{count[split]}.h5"
        for split in splits
        for shard in range(count[split])
    ]


def deciding_shards(run):
    """The shards of val where what is measured on them during training decides on a run's weights, else none."""
    chosen = recipe(run)
    return shards("val") if chosen["keep"] == "best" or chosen["patience"] else []


def validation_flag(run):
    """The flag that names the shards a run is measured on during training; '' if it is not."""
    if not recipe(run)["validate_every"]:
        return ""
    return " ".join(["--val-shards", *shards("val")]).format(dataset=DATASET)


def tested():
    """["test"] if the dataset has a test split, else []; known once the dataset is fetched."""
    index = checkpoints.fetch_dataset.get(dataset=DATASET).output[0]
    return ["test"] if "test" in json.loads(Path(index).read_text())["pairs"] else []


def test_metrics(wildcards):
    """Each run's scores on the test split, if there is one."""
    return [f"results/{DATASET}/{run}/metrics_test.json" for run in RUNS if tested()]


def option(flag, value):
    """A command-line flag with its quoted value, joined if it looks like a flag itself; '' for null."""
    joint = "=" if str(value).startswith("-") else " "
    return "" if value is None else f"{flag}{joint}{shlex.quote(str(value))}"


def expanded(source):
    """A source with `~` expanded to the home folder; URLs, other paths and null are unchanged."""
    return source and os.path.expanduser(source)


def protocol_flags(name):
    """Yield a protocol's flags for `ccnet evaluate`, in a fixed order."""
    for key, value in sorted(config["evaluation"][name].items()):
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, list):
            yield " ".join([flag, *map(str, value)])
        elif value is not None and value is not False:
            yield flag if value is True else f"{flag} {value}"


def folders_or_index(wildcards):
    """Input of segment: the user's folder and its subfolders, so that new photos trigger it; or fetch's index."""
    folder = FOLDERS[wildcards.folder]
    if inside(folder, RESULTS):
        return "results/{dataset}/source/index.json"
    return [parent for parent, _ in walk(folder)] or folder


def walk(folder, links=False):
    """Yield this folder and its subfolders, each with the names of its files.

    Skips hidden folders and the results, which change with every run. Follows links to folders if `links`.
    """
    for parent, names, files in os.walk(folder, followlinks=links):
        names[:] = [
            name
            for name in sorted(names)
            if not name.startswith(".")
            and not inside(Path(parent, name), RESULTS)
            and not inside(parent, Path(parent, name).resolve())  # a circular link
        ]
        yield parent, files


def source_state(wildcards):
    """A value that changes if images or label maps are added to or removed from the user's source; reruns fetch.

    For a folder it is a hash of their names, so that other files and new modification times retrain nothing, and of the
    sizes and times of the few files that list classes, splits and COCO's annotations.
    """
    source = Path(config["dataset"]["source"] or os.devnull).expanduser()
    classes = state_of(Path(config["dataset"]["classes"] or os.devnull).expanduser())
    if source.is_file():
        return state_of(source) + classes
    state = sorted(
        entry
        for parent, files in walk(source, links=True)
        for entry in [*names_of_pairs(parent, files), *states_of_lists(parent, files)]
    )
    return hashlib.sha256(os.fsencode("\n".join(state))).hexdigest()[:16] + classes


def state_of(file):
    """A file's size and time; '' if there is none."""
    return f"{file.stat().st_size} {file.stat().st_mtime_ns}" if file.is_file() else ""


def names_of_pairs(parent, files):
    """Yield the paths of images, of annotations in JSON, and of Pascal Context's label maps."""
    for name in files:
        kind = mimetypes.guess_type(name, strict=False)[0] or ""
        if kind.startswith("image/") or name.endswith((".json", ".mat")):
            yield os.path.join(parent, name)


# Of a dataset of the user's own: class files, and lists of a split's names.
LISTS = {"classes.txt", "classes.csv"} | {
    f"{split}.txt" for split in ("train", "val", "valid", "validation", "test")
}


def states_of_lists(parent, files):
    """Yield path, size and time of a folder's lists, class files, and JSON files if they are few (COCO's)."""
    annotations = [name for name in files if name.endswith(".json")]
    lists = [name for name in files if name in LISTS]
    for name in [*lists, *(annotations if len(annotations) <= 8 else [])]:
        path = Path(parent, name)
        yield f"{path} {state_of(path)}"


def threads_per_gpu():
    """The cores divided by the number of jobs that may use a GPU at once; on a cluster, the profile sets threads."""
    gpu = workflow.global_resources.get("gpu")
    return max(1, (workflow._cores or 8) // ((gpu and gpu.value) or 1))


def out_of_date():
    """Files that Snakemake would remake for the report (changed settings, weights, data); None if planning fails."""
    chosen = workflow.config_settings
    command = [sys.executable, "-m", "snakemake", "report", "--summary"]
    command += ["--snakefile", workflow.main_snakefile]
    for flag, values in {
        "--config": chosen.config_args,
        "--configfile": chosen.configfiles,
    }.items():
        command += [flag, *map(str, values)] if values else []
    if chosen.replace_workflow_config:
        command.append("--replace-workflow-config")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return None
    rows = csv.DictReader(
        done.stdout.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    return {row["output_file"] for row in rows if row["plan"] != "no update"}


def mean_ious(runs, old, name="metrics.json"):
    """The mIoU of each of these runs whose metrics are there and up to date; None where it is undefined."""
    files = [Path(f"results/{DATASET}/{run}/{name}") for run in runs]
    return [
        json.loads(file.read_text())["mean_iou"]
        for file in files
        if file.exists() and str(file) not in old
    ]


def spread(values):
    """A mean as text, of more than one value with their sample standard deviation; a dash of none."""
    known = [value for value in values if value is not None]
    deviation = f" ± {statistics.stdev(known):.4f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.4f}{deviation}" if known else "–"


def score(runs, old):
    """The mIoU of these runs, and that on the test split, as text."""
    index = Path(f"results/{DATASET}/source/index.json")
    tested = index.exists() and "test" in json.loads(index.read_text())["pairs"]
    on_test = mean_ious(runs, old, "metrics_test.json") if tested else []
    test = f", on the test split {spread(on_test)}" if on_test else ""
    return f"mIoU {spread(mean_ious(runs, old))}{test}"


def print_scores():
    """Print each run's score, means over seeds and the report's path, or that it is out of date; omits what is not there."""
    old = out_of_date()
    if old is None:
        print(
            "scores: not shown, since `snakemake report` cannot be planned: see `snakemake report --dry-run`"
        )
        return
    for run in RUNS:
        metrics = Path(f"results/{DATASET}/{run}/metrics.json")
        if str(metrics) in old and metrics.exists():
            print(
                f"{run}: its score is out of date: `snakemake evaluate`, with the same options, measures it again"
            )
        elif metrics.exists():
            print(f"{run}: {score([run], old)}")
    for name, runs in recipes.groups(config).items():
        if (count := len(mean_ious(runs, old))) > 1:
            print(f"{name}, {count} seeds: {score(runs, old)}")
    page = Path(f"results/{DATASET}/report.html")
    if str(page) in old and page.exists():
        print(
            f"report: {page.resolve()} is out of date: `snakemake report`, with the same options, writes it again"
        )
    elif page.exists():
        print(f"report: {page.resolve()}")
