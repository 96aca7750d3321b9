"""The figure of what attention costs by the size of the map."""

from collections.abc import Sequence

import altair as alt

from ccnet.page import curves, figures
from ccnet.results import Efficiency

MEASURES = {"gflops": "GFLOPs", "seconds": "seconds", "megabytes": "MB beyond the input"}


def svg(rows: Sequence[Efficiency], background: str = "transparent") -> str:
    """An inline `<svg>` with a logarithmic chart of each measure by the side of the map, in the text's colour."""
    heads = list(dict.fromkeys(row.head for row in rows))
    charts = [
        alt.Chart(alt.Data(values=[row.model_dump() for row in rows]), width=200, height=220)
        .mark_line(point=True)
        .encode(
            alt.X("side:Q", title="side of the map").axis(values=sorted({row.side for row in rows})),
            alt.Y(f"{name}:Q", title=title).scale(type="log"),
            alt.Color("head:N", title=None).scale(domain=heads, range=figures.colours(len(heads))),
            alt.StrokeDash("head:N", legend=None, sort=heads),
        )
        for name, title in MEASURES.items()
    ]
    chart = curves.inked(alt.hconcat(*charts, background=background))
    return curves.drawn(chart.to_dict(validate=False), "efficiency")
