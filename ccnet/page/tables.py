"""The runs' results as tables for other programs: results.csv with a row for each run, results.tex for a paper."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccnet.data.anchors import Anchor
from ccnet.files import write_text
from ccnet.groups import Group, spread
from ccnet.page.measures import MEASURES, SCORES, best, known, score
from ccnet.results import Run

PAPER = (*SCORES, "parameters", "flops")  # the measures of results.tex
TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_"}, "–": "--", "±": r"$\pm$", "×": r"$\times$", "\u2009": r"\,",
}  # fmt: skip


def write_csv(out: Path, groups: Sequence[Group]) -> None:
    """Write a row for each run: what it is, its measures in SI units with shares in 0..1, and the IoU of each class.

    An empty cell: not known.
    """
    rows = [_row(group, run) for group in groups for run in group.runs]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out, text.getvalue())


def _row(group: Group, run: Run) -> dict[str, Any]:
    metrics, settings = run.metrics, run.settings
    return {
        "group": group.name,
        "run": run.name,
        "seed": settings.get("seed"),
        **{key: settings.get(f"model.{key}") for key in ("backbone", "head", "recurrence")},
        "steps": run.history[-1].step if run.history else None,
        **{name: measure.of(run) for name, measure in MEASURES.items()},
        **{f"mean_iou_{name}": further.mean_iou for name, further in run.further.items()},
        "weights_sha256": metrics.protocol.get("weights_sha256"),
        "commit": metrics.training.commit if metrics.training else None,
        **{f"iou: {name}": iou for name, iou in metrics.per_class.items()},
    }


def write_tex(out: Path, dataset: str, groups: Sequence[Group], anchors: Sequence[tuple[Anchor, str]]) -> None:
    """Write a LaTeX table, for the package booktabs: a row for each group of runs, then the published figures.

    A comment behind each published figure is the sentence on how its protocol compares.
    """
    runs = [run for group in groups for run in group.runs]
    shown = {name: measure for name, measure in known(runs).items() if name in PAPER}
    further = list(runs[0].further)
    heads = ["run", *(each.label for each in shown.values()), *(f"mIoU %, {name}" for name in further)]
    columns = [[each.spread(group) for group in groups] for each in shown.values()]
    columns += [[spread(run.further[name].mean_iou for run in group.runs) for group in groups] for name in further]
    shows = [*shown.values(), *[MEASURES["mean_iou"]] * len(further)]
    texts = [_column(*each) for each in zip(shows, columns, strict=True)]
    rows = [[tex(group.name), *row] for group, *row in zip(groups, *texts, strict=True)]
    lines = [_line(row) for row in rows] + [r"\midrule"] * bool(anchors)
    lines += [_line(_published(each, len(heads))) + f" % {sentence}" for each, sentence in anchors]
    write_text(out, _table(dataset, groups, [tex(head) for head in heads], lines))


def _column(measure, spreads) -> list[str]:
    """The cells of a measure; the best one is bold."""
    top = best([each.mean for each in spreads]) if measure.scored else None
    cells = []
    for each in spreads:
        mean, deviation = map(tex, measure.text(each))
        bold = rf"\textbf{{{mean}}}" if each.mean is not None and each.mean == top else mean
        cells.append(bold + (rf" $\pm$ {deviation}" if deviation else ""))
    return cells


def _published(anchor: Anchor, width: int) -> list[str]:
    row = [f"{tex(anchor.network)} ({tex(anchor.source)})", score(float(anchor.mean_iou) / 100)]
    return row + [""] * (width - len(row))


def _table(dataset: str, groups: Sequence[Group], heads: Sequence[str], lines: Sequence[str]) -> str:
    protocols = dict.fromkeys(str(run.metrics.protocol.get("in_words", "")) for group in groups for run in group.runs)
    seeds = " $\\pm$: standard deviation over seeds." if any(len(group.runs) > 1 for group in groups) else ""
    return "\n".join([
        r"% \usepackage{booktabs} in the preamble",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{Results on {tex(dataset)}. {tex(' / '.join(protocols))}{seeds}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        _line(heads),
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def tex(text: str) -> str:
    """Text as LaTeX shows it literally."""
    return "".join(TEX.get(sign, sign) for sign in text.replace("\n", " "))
