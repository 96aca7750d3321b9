"""The arguments, help and example of each subcommand."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from ccnet.parser import Command


def _fetch(command: Command) -> None:
    command.add_argument("--dataset", required=True, metavar="NAME", help="in the catalog, or any name with --layout")
    command.add_argument("--layout", help="entry of the catalog that it is like, or 'folder' for your own")
    command.add_argument("--source", help="a folder, archive or address to use in place of the catalog's")
    group = command.add_argument_group("a folder of your own")
    group.add_argument("--classes", help="classes.txt (a name a line) or classes.csv (default: the one in it)")
    group.add_argument("--val-share", type=float, metavar="SHARE", help="of its images that become val, if it has none")
    group.add_argument("--image-ending", metavar="END", help="of the images' names where they differ (default: found)")
    group.add_argument("--label-ending", metavar="END", help="of the label maps' names, as _mask (default: found)")
    command.add_argument("--out", type=Path, required=True, help="folder to write index.json and what it lists to")


def _inspect(command: Command) -> None:
    command.add_argument("index", type=Path, metavar="INDEX.json", help="what fetch wrote")
    command.add_argument("--out", type=Path, required=True, help="inspect.html to write")


def _prepare(command: Command) -> None:
    command.add_argument("index", type=Path, metavar="INDEX.json", help="what fetch wrote")
    command.add_argument("--split", required=True, choices=["train", "val", "test"])
    command.add_argument("--shard", type=int, default=0, help="number of this shard, from 0 (default: 0)")
    command.add_argument("--of", type=int, default=1, help="number of shards the split is dealt out to (default: 1)")
    command.add_argument("--max-size", type=int, help="longer side in pixels above which images are scaled down")
    command.add_argument("--limit", type=int, help="use only the first LIMIT pairs of the split")
    command.add_argument(
        "--on-bad-pair", choices=["fail", "skip"], default="fail",
        help="pairs that are incomplete, damaged or do not match: fail lists them all and writes nothing,"
        " skip leaves them out and notes in the shard which and why (default: fail)")  # fmt: skip
    command.add_argument("--out", type=Path, required=True, help="shard to write (.h5)")


def _verify(command: Command) -> None:
    command.add_argument("shards", type=Path, nargs="+", metavar="SHARD.h5")
    command.add_argument("--out", type=Path, required=True, help="labels.json: histogram, sizes, absent classes")


def _settings(command: Command) -> None:
    command.add_argument("flat", type=json.loads, metavar="JSON", help="hyperparameters by name, as in config.yaml")
    command.add_argument("--out", type=Path, required=True, help="settings.json to write")
    command.add_argument("--pretrained", type=Path, metavar="W.safetensors", help="weights that the run begins with")
    command.shows_hyperparameters = True


def _import_weights(command: Command) -> None:
    command.add_argument("source", metavar="SOURCE", help="PyTorch's .pth, Jittor's .pkl, or a name of `ccnet weights`")
    command.add_argument(
        "--for", dest="backbone", metavar="BACKBONE", help="such as resnet50; needed unless it is a name"
    )
    command.add_argument("--out", type=Path, required=True, help="weights to write (.safetensors)")
    command.add_argument("--sha256", metavar="HEX", help="SHA-256 of the file; required for an address")
    command.add_argument(
        "--classes", type=Path, help="text file with a class name a line, for the weights of a whole CCNet"
    )
    command.add_argument(
        "--skip", nargs="+", metavar="PREFIX", help="parameters that may stay unfilled, such as auxiliary"
    )


def _describe(command: Command) -> None:
    command.add_argument("name", metavar="BACKBONE", help="such as resnet50, van_base")
    command.add_argument("--size", type=int, default=512, help="side of a square image, pixels (default: 512)")
    command.add_argument("--classes", type=int, default=19, help="(default: 19)")
    command.add_argument(
        "--recurrence", type=int, choices=range(6), default=2, help="loops of the attention; 0: none (default: 2)"
    )
    command.add_argument("--head", choices=["rcca", "non_local"], default="rcca", help="(default: rcca)")
    command.add_argument(
        "--output-stride", type=int, choices=[8, 16, 32], help="of the last stage (default: ResNet 8, VAN 32)"
    )
    fused = "levels 2 to 4 fused at stride 8 (default: for a VAN)"
    command.add_argument("--fusion", action=argparse.BooleanOptionalAction, help=fused)
    command.add_argument("--head-channels", type=int, help="(default: the family's own)")
    command.add_argument("--plain-stem", action="store_true", help="a ResNet's stem of one 7×7, not three 3×3")


def _train(command: Command) -> None:
    command.add_argument("--settings", type=Path, required=True, help="settings.json of the run")
    command.add_argument("--shards", type=Path, nargs="+", required=True, metavar="SHARD.h5", help="training shards")
    command.add_argument(
        "--val-shards", type=Path, nargs="+", metavar="SHARD.h5", help="of the val split, for validate_every"
    )
    command.add_argument("--checkpoints", type=Path, required=True, help="their folder; continued from, if it has any")
    command.add_argument("--out", type=Path, required=True, help="weights to write (.safetensors)")
    command.add_argument(
        "--history", type=Path, required=True, help="history.csv to write; events/ beside it is for TensorBoard"
    )
    command.add_argument(
        "--pretrained", type=Path, metavar="W.safetensors", help="to begin with; the settings name their SHA-256"
    )
    command.add_argument(
        "--devices", type=int, default=1, metavar="N", help="GPUs (or processes) that share each batch (default: 1)"
    )
    command.add_argument(
        "--workers", type=int, default=1, help="processes per device that load images; 0: none (default: 1)"
    )
    command.add_argument("--checkpoint-every", type=float, default=60, metavar="SECONDS", help="(default: 60)")
    command.add_argument(
        "--memory-limit", type=int, metavar="MB",
        help="host memory past which training saves and starts itself again (default: 90 %% of what the machine, its"
        " container or its SLURM job has)")  # fmt: skip
    command.add_argument(
        "--set", action="append", dest="changes", metavar="GROUP.NAME=VALUE", help="change a hyperparameter"
    )
    command.add_device()
    command.shows_hyperparameters = True


def _evaluate(command: Command) -> None:
    command.add_weights()
    command.add_argument("--shards", type=Path, nargs="+", required=True, metavar="SHARD.h5", help="validation shards")
    command.add_argument("--out", type=Path, required=True, help="metrics.json to write")
    command.add_argument("--examples", type=Path, help="folder for a few predictions, as palette PNG")
    group = command.add_protocol("default: whole images at their own size, one scale")
    group.add_argument("--score-at", choices=["original", "resized"], help="labels as they are, or resized alike")
    command.add_device()


def _segment(command: Command) -> None:
    command.add_argument(
        "inputs", type=Path, nargs="*", metavar="IMAGES",
        help="folders, searched with those below them; files; patterns in quotes, as 'photos/**/*.jpg'")  # fmt: skip
    command.add_argument("--list", type=Path, dest="listed", metavar="FILE", help="text file with a path on each line")
    command.add_weights()
    command.add_argument("--out", type=Path, required=True, help="folder for masks, overlays and index.csv")
    group = command.add_argument_group("results of each image, besides its mask")
    group.add_argument("--no-overlay", dest="overlay", action="store_false", help="no picture of the classes over it")
    group.add_argument(
        "--confidence", action="store_true", help="8-bit map: 255 × the probability of each pixel's class"
    )
    group.add_argument("--probabilities", action="store_true", help=".npy: all classes', float16, (classes, H, W)")
    command.add_argument("--strict", action="store_true", help="exit 1 if any image cannot be segmented")
    group = command.add_protocol("default: at the scale that the weights were trained for, whole, one scale")
    group.add_argument("--own-size", action="store_true", help="leave images at their own size")
    command.add_device()


def _attend(command: Command) -> None:
    command.add_argument("image", type=Path, metavar="IMAGE", help="JPEG, PNG, BMP, TIFF or WebP, up to 24 megapixels")
    command.add_weights()
    pixels = "a pixel of the image, from 0,0 at its top left; repeat it for more, a row of the picture each"
    command.add_argument("--at", type=_point, action="append", required=True, metavar="X,Y", help=pixels)
    command.add_argument(
        "--out", type=Path, required=True, metavar="A.png",
        help="picture to write; A.npy beside it has the weights after 1, … R loops, float32 (R, h, w) at the size of"
        " the feature map, or (N, R, h, w) for N > 1 pixels; each map sums to 1")  # fmt: skip
    command.add_device()


def _point(text: str) -> tuple[int, int]:
    """X,Y as two integers; argparse shows the error as a usage error."""
    try:
        x, y = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a pixel is X,Y, such as 120,80") from None
    return x, y


def _export(command: Command) -> None:
    command.add_argument("weights_file", type=Path, metavar="W.safetensors", help="a file, or a run's folder")
    command.add_argument(
        "--to", required=True, choices=["onnx", "torchscript", "pytorch", "mmsegmentation", "official"],
        help="onnx, torchscript: from an image's bytes to logits at its size; pytorch: a state dict for the networks of"
        " ccnet.export.networks; mmsegmentation, official: one by the names of these codebases' CCNets")  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="F", help="file to write")


def _report(command: Command) -> None:
    command.add_argument("--labels", type=Path, required=True, help="labels.json of the dataset")
    command.add_argument("--shards", type=Path, nargs="+", required=True, metavar="SHARD.h5", help="validation shards")
    command.add_argument(
        "--runs", type=Path, nargs="+", required=True, metavar="RUN", help="folders of the runs to compare"
    )
    command.add_argument("--protocols", nargs="+", default=[], metavar="NAME", help="also RUN/metrics_NAME.json")
    command.add_argument("--folders", nargs="+", default=[], metavar="NAME", help="also RUN/segmented/NAME")
    command.add_argument("--efficiency", type=Path, metavar="F.csv", help="what `ccnet efficiency` wrote")
    command.add_argument(
        "--out", type=Path, required=True, help="report.html to write, with results.csv and results.tex beside it"
    )


def _efficiency(command: Command) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="F.csv", help="to write, with F.svg beside it")


def _bench(command: Command) -> None:
    command.add_argument("--only", default="", metavar="PATTERN", help="cases with this in their names ('?' lists all)")
    command.add_argument(
        "--threads", type=int, nargs="+", metavar="N", help="of each side in turn (default: 1 2; on a GPU 2)"
    )
    command.add_argument("--repeats", type=int, default=7, help="runs of each side of a case (default: 7)")
    command.add_argument("--out", type=Path, default=Path("results/bench.json"), help="(default: results/bench.json)")
    command.add_device()


def _doctor(command: Command) -> None:
    command.add_argument("--fix", action="store_true", help="prepare the CUDA toolkit that is here for Jittor")
    command.add_argument("--json", dest="as_json", action="store_true", help="print JSON, for a bug report")


def _warmup(command: Command) -> None:
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs, with their settings.json")
    command.add_device()


COMMANDS: dict[str, tuple[str, Callable[[Command], None], str]] = {
    "fetch": (
        "get a dataset, or list the pairs in a folder",
        _fetch, "--dataset streets --out results/streets/source",
    ),
    "inspect": (
        "show a dataset and what is suspicious in it in one self-contained HTML page",
        _inspect, "results/streets/source/index.json --out results/streets/inspect.html",
    ),
    "prepare": (
        "pack image and label pairs into an HDF5 shard, checking each",
        _prepare, "results/streets/source/index.json --split val --out results/streets/shards/val-0-of-1.h5",
    ),
    "verify": (
        "check the shards' checksums and count what is in them",
        _verify, "results/streets/shards/*.h5 --out results/streets/labels.json",
    ),
    "settings": (
        "write a run's settings.json from its hyperparameters",
        _settings, """'{"backbone": "van_tiny", …}' --out results/streets/van_tiny/settings.json""",
    ),
    "weights": ("list the published weights that have a name", lambda _: None, "| grep ade20k"),
    "import-weights": (
        "turn published PyTorch or Jittor weights into ours",
        _import_weights, "mmseg-ade20k-r101 --out mmseg-ade20k-r101.safetensors",
    ),
    "describe": (
        "print a network's parameters, FLOPs and strides, part by part",
        _describe, "van_base --size 512 --classes 150",
    ),
    "train": (
        "train a run, or continue it from its newest checkpoint",
        _train, "--settings RUN/settings.json --shards train-*.h5 --checkpoints RUN/checkpoints"
                " --out RUN/weights.safetensors --history RUN/history.csv",
    ),
    "evaluate": (
        "measure weights on the validation shards",
        _evaluate, "--weights RUN/weights.safetensors --shards val-*.h5 --out RUN/metrics.json",
    ),
    "segment": (
        "segment images: a mask and an overlay for each, and index.csv",
        _segment, "photos/ --weights RUN/weights.safetensors --out segmented/",
    ),
    "attend": (
        "show where a pixel looks after each loop of criss-cross attention",
        _attend, "photo.jpg --weights RUN/weights.safetensors --at 120,80 --out attention.png",
    ),
    "export": (
        "turn weights into a file for ONNX Runtime, PyTorch, mmsegmentation or the official CCNet",
        _export, "RUN/weights.safetensors --to onnx --out van_tiny.onnx",
    ),
    "report": (
        "compare runs in one self-contained HTML page",
        _report, "--labels labels.json --shards val-*.h5 --runs RUN1 RUN2 --out report.html",
    ),
    "doctor": (
        "say what this machine lacks for ccnet, and how to get it",
        _doctor, "--fix",
    ),
    "warmup": (
        "compile all that runs need, so that no GPU waits for a compiler",
        _warmup, "results/streets/van_tiny",
    ),
    "efficiency": (
        "measure criss-cross attention beside the non-local block, by the size of the map",
        _efficiency, "--out efficiency.csv",
    ),
    "bench": (
        "time this project beside PyTorch on this machine's CPU or GPU, each with cases of its own",
        _bench, "--device cuda --only 'criss-cross 97'",
    ),
}  # fmt: skip
