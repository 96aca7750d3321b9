"""`ccnet report`: write a self-contained HTML page that compares the runs of a dataset, with pictures."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ccnet import __version__
from ccnet.data import anchors
from ccnet.data.shards import ShardReader
from ccnet.files import write_text
from ccnet.groups import Group, grouped, spread
from ccnet.mistakes import most_confused
from ccnet.page import curves, explorer, figures, measures, pictures, tables, templates
from ccnet.page.efficiency import svg as efficiency_svg
from ccnet.page.templates import percent
from ccnet.results import Efficiency, Labels, Provenance, Run, Segmented, flat, load, overlays, pixels, read

WIDEST_TABLE = 24  # classes; a larger confusion matrix is shown as a picture


def run(
    *,
    labels: Path,
    shards: list[Path],
    runs: list[Path],
    out: Path,
    protocols: Sequence[str] = (),
    folders: Sequence[str] = (),
    efficiency: Path | None = None,
) -> None:
    """Write the page `out` about `runs` (their folders), with pictures from `shards` (the val split).

    Beside it, results.csv, results.tex, loss.svg and mean_iou.svg have the same figures. It compares the scores of the
    standard protocol and of further `protocols`; "test" is the standard one on the test split. `folders` are names
    below RUN/segmented, `efficiency` a table of `ccnet efficiency`. Runs that differ by their seed alone are compared
    as one, by mean and standard deviation. Raises InputError naming the file that is missing, invalid, or has other
    classes than `labels`.
    """
    described = read(labels, Labels, "verify")
    loaded = [load(folder, described.class_names, protocols) for folder in runs]
    groups = grouped(loaded)
    published = anchored(described.class_names, loaded)
    dataset = labels.resolve().parent.name
    colours = figures.colours(len(groups))
    drawn = charts(groups, colours)
    templates.write(
        "report.html.j2",
        out,
        dataset=dataset,
        labels=described,
        groups=groups,
        anchors=published,
        **first_screen(groups),
        colours=colours,
        charts=drawn,
        stills={name: curves.svg(each) for name, each in drawn.items()},
        measured_in_training=any(row.mean_iou is not None for run in loaded for row in run.history),
        javascript=curves.javascript(),
        **predictions(ShardReader(shards), groups, described),
        **beside_each_other(groups, loaded),
        commands=commands,
        citations=citations(loaded),
        scores=scores(groups, protocols),
        segmented=segmented([group.runs[0] for group in groups], folders),
        **costs(efficiency),
    )
    write_beside(out, dataset, groups, published, drawn)
    print(f"report of {len(loaded)} {'run' if len(loaded) == 1 else 'runs'}: {out}")


def beside_each_other(groups: list[Group], runs: list[Run]) -> dict[str, Any]:
    """The template's data for what was set, how it was measured, and what made it."""
    return {
        "settings": compared([group.common(lambda run: run.settings) for group in groups]),
        "protocol": compared([group.common(measured) for group in groups]),
        "unlike": [key for key in compared([measured(run) for run in runs])["differ"] if key != "weights_sha256"],
        "trained": trained(groups),
        "origins": [(number, run) for number, group in enumerate(groups) for run in group.runs],
    }


def predictions(reader: ShardReader, groups: list[Group], labels: Labels) -> dict[str, Any]:
    """The template's data for what the runs predict: pictures, attention, mistakes; of a group's first run each."""
    runs = [group.runs[0] for group in groups]
    return {
        **pictures.shown(reader, runs, labels.palette),
        "explored": explorer.explored(reader, runs),
        "mistaken": [pictures.confused(reader, run, labels.class_names) for run in runs],
        "confusions": [confusion(group.confusion(), labels.class_names) for group in groups],
    }


def first_screen(groups: list[Group]) -> dict[str, Any]:
    """The template's data for the table of the runs: its measures, their best values, its rows."""
    runs = [(number, run) for number, group in enumerate(groups) for run in group.runs]
    shown = measures.known([run for _, run in runs])
    return {
        "scored": {name: each for name, each in shown.items() if name in measures.SCORES},
        "others": {name: each for name, each in shown.items() if name not in measures.SCORES},
        "best": {name: each.best(groups) for name, each in shown.items()},
        "flops_sizes": sorted({f"{each.height} × {each.width}" for _, run in runs if (each := run.metrics.flops)}),
        "rows": list(enumerate(groups)),
        "single": [(number, Group(run.name, [run])) for number, run in runs if len(groups[number].runs) > 1],
    }


def write_beside(
    out: Path, dataset: str, groups: list[Group], published: list[tuple[anchors.Anchor, str]], drawn: dict[str, Any]
) -> None:
    """Write the files beside the page."""
    tables.write_csv(out.with_name("results.csv"), groups)
    tables.write_tex(out.with_name("results.tex"), dataset, groups, published)
    for name in ("loss", "mean_iou"):
        write_text(out.with_name(f"{name}.svg"), curves.svg(drawn[name], legend=True))


def anchored(class_names: list[str], runs: list[Run]) -> list[tuple[anchors.Anchor, str]]:
    """The published figures on these classes, each with a sentence on how it compares with the runs."""
    protocols = {"standard": [run.metrics.protocol for run in runs]}
    protocols |= {name: [run.further[name].protocol for run in runs] for name in runs[0].further}
    return [(each, anchors.comparison(each, protocols)) for each in anchors.published(class_names)]


def measured(run: Run) -> dict[str, Any]:
    """The protocol that a run was measured by, with dotted keys."""
    return flat(run.metrics.protocol)


def trained(groups: list[Group]) -> list[tuple[int, str, Provenance]]:
    """For each run: its group's number, its name, and how it was trained; empty if that is known of none."""
    rows = [(number, run.name, run.metrics.training) for number, group in enumerate(groups) for run in group.runs]
    known = any(training for _, _, training in rows)
    return [(number, name, training or Provenance()) for number, name, training in rows if known]


def commands(run: Run) -> list[tuple[str, str]]:
    """What each command made that a run's metrics name, in words, and the command."""
    found = [("The weights", run.metrics.training)]
    measured = {"standard": run.metrics} | run.further
    found += [(f"mIoU {percent(each.mean_iou, 2)} under {name}", each.provenance) for name, each in measured.items()]
    return [(words, made.command) for words, made in found if made and made.command]


def citations(runs: list[Run]) -> str:
    """BibTeX entries of the methods that the runs use, and of this software."""
    van = any(str(run.settings.get("model.backbone")).startswith("van") for run in runs)
    return templates.load("citations.bib.j2").render(van=van, version=__version__)


def scores(groups: list[Group], protocols: Sequence[str]) -> list[dict[str, Any]]:
    """For each protocol: its name, its description (several if the runs differ), each group's mIoU, and the best."""
    rows = []
    for name in ("standard", *protocols):
        metrics = [[run.metrics if name == "standard" else run.further[name] for run in group.runs] for group in groups]
        words = dict.fromkeys(described(each.protocol) for group in metrics for each in group)
        found = [spread(each.mean_iou for each in group) for group in metrics]
        top = measures.best([each.mean for each in found])
        rows.append({"name": name, "words": " / ".join(words), "mean_ious": found, "best": top})
    return rows


def described(protocol: dict[str, Any]) -> str:
    """A protocol in words, with the split if it is not val."""
    words, split = str(protocol.get("in_words", "")), str(protocol.get("split", "val"))
    return words if split == "val" else f"The {split} split. {words}"


def charts(groups: list[Group], colours: list[str]) -> dict[str, dict[str, Any]]:
    """The charts: loss, mean IoU and learning rate with a curve for each run, IoU by area with one for each group."""

    def of(column: str) -> list[curves.Curve]:
        return [
            curves.Curve(run.name, group.name, number, colours[number], *run.known(column))
            for number, group in enumerate(groups)
            for run in group.runs
        ]

    return {
        "loss": curves.losses(of("loss")),
        "mean_iou": curves.mean_ious(of("mean_iou")),
        "learning_rate": curves.learning_rates(of("learning_rate")),
        "areas": curves.areas(
            [
                curves.Curve(group.name, group.name, number, colours[number], *group.areas())
                for number, group in enumerate(groups)
            ]
        ),
    }


def compared(tables: list[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Map each key to its value in each table (None if missing), split into keys that "differ" and keys in "common"."""
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = {key: [table.get(key) for table in tables] for key in keys}
    differ = {key: row for key, row in rows.items() if any(value != row[0] for value in row)}
    return {"differ": differ, "common": {key: row for key, row in rows.items() if key not in differ}}


def confusion(counts: np.ndarray, class_names: list[str]) -> dict[str, Any]:
    """A confusion matrix `(C, C)` normalised by rows (a picture if it is large), and its eight largest confusions."""
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    large = len(shares) > WIDEST_TABLE
    return {
        "rows": None if large else shares.tolist(),
        "picture": figures.matrix_uri(shares) if large else None,
        "top": [(class_names[i], class_names[j], share) for i, j, share in most_confused(counts, 8)],
    }


def costs(path: Path | None) -> dict[str, Any]:
    """The template's data for what attention costs; `path` is what `ccnet efficiency` wrote, if it was run."""
    rows = read(path, list[Efficiency], "efficiency") if path else []
    return {"costs": rows, "cost_figure": efficiency_svg(rows) if rows else ""}


def segmented(runs: list[Run], folders: Sequence[str]) -> list[dict[str, Any]]:
    """The template's data for each of these folders, segmented by each run."""
    found = [(run, run.folder / "segmented" / name / "index.csv") for run in runs for name in folders]
    sections = []
    for run, index in found:
        rows = read(index, list[Segmented], "segment")
        shown = overlays(index.parent, rows)[: pictures.at_most(len(found))]
        sections.append(
            {
                "run": run,
                "folder": index.parent.name,
                "counts": Counter("failed" if row.status == "failed" else "ok" for row in rows),
                "failed": [row for row in rows if row.status == "failed"],
                "overlays": [(path.stem.removesuffix("_overlay"), photo(path)) for path in shown],
            }
        )
    return sections


def photo(path: Path) -> str:
    """The image file `path` as a data URI."""
    return figures.photo_uri(pixels(path))
