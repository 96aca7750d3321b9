"""Rendering the package's pages: self-contained HTML files, from the Jinja templates beside this module."""

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from ccnet import __version__
from ccnet.files import write_text


def write(name: str, out: Path, **values: Any) -> None:
    """Render the template `name` with `values`, `now` and the package's `version`, and write it to `out`."""
    page = load(name).render(now=datetime.now().astimezone(), version=__version__, **values)
    write_text(out, page)


def load(name: str) -> jinja2.Template:
    """A Jinja template of this package, with autoescaping."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ccnet", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {each.__name__: each for each in (percent, thousands, share, sizes, plain, duration, memory)}
    return environment.get_template(name)


def percent(value: float | None, digits: int = 1) -> str:
    """A share in 0..1 as a percentage without the sign; a dash for None and non-finite values."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def share(part: float, pixels: list[int]) -> float:
    """`part` divided by the sum of `pixels`; 0 if `part` and the sum are 0."""
    return part / (sum(pixels) or 1)


def sizes(counts: dict[str, int]) -> str:
    """Image sizes with the number of images of each: the three most frequent, and the number of other sizes."""
    known = sorted(counts.items(), key=lambda item: -item[1])
    named = [f"{size.replace('x', ' × ')} ({thousands(count)})" for size, count in known[:3]]
    return ", ".join(named) + (f" and {thousands(len(known) - 3)} other sizes" if len(known) > 3 else "")


def thousands(value: int | None) -> str:
    """A count with thin spaces between thousands; a dash for None."""
    return "–" if value is None else f"{value:,}".replace(",", "\u2009")


def plain(value: Any) -> str:
    """A setting's value as readable text."""
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value) if isinstance(value, str) else json.dumps(value)


def duration(seconds: float | None) -> str:
    """A time in seconds, minutes, or hours and minutes; a dash for None."""
    if seconds is None:
        return "–"
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def memory(size: float | None) -> str:
    """A number of bytes in GB of 10⁹; a dash for None."""
    return "–" if size is None else f"{size / 1e9:.2f} GB"
