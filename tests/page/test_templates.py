"""How values are written in pages; the pages themselves are in tests/commands/test_report.py and test_inspect.py."""

import math

import jinja2
import pytest

from ccnet.page import templates


def test_shares_are_per_cent_and_what_is_unknown_a_dash():
    assert [templates.percent(value) for value in (0.1234, 1, None, math.nan)] == ["12.3", "100.0", "–", "–"]
    assert templates.percent(0.1234, 0) == "12"
    assert templates.share(1, [1, 3]) == 0.25
    assert templates.share(0, [0, 0]) == 0


def test_counts_are_spaced():
    assert [templates.thousands(value) for value in (999, 1_234_567, None)] == ["999", "1\u2009234\u2009567", "–"]


def test_the_most_frequent_sizes_are_named():
    counts = {"1x2": 1, "3x4": 2000, "5x6": 7, "7x8": 3, "9x9": 1}
    assert templates.sizes(counts) == "3 × 4 (2\u2009000), 5 × 6 (7), 7 × 8 (3) and 2 other sizes"
    assert templates.sizes({}) == ""


def test_values_read_as_text():
    assert [templates.plain(value) for value in ([1, "a"], [], True, None, 0.5)] == ["1, a", "none", "yes", "–", "0.5"]


def test_times_and_memory_read_as_such():
    times = [None, 0.4, 59, 119, 150, 7140, 7200, 90061]
    assert [templates.duration(time) for time in times] == [
        "–", "0 s", "59 s", "2 min", "2 min", "119 min", "2 h 0 min", "25 h 1 min"
    ]  # fmt: skip
    assert [templates.memory(size) for size in (None, 1_900_000_000, 4_000_000)] == ["–", "1.90 GB", "0.00 GB"]


def test_a_page_that_lacks_a_value_is_not_written(tmp_path):
    with pytest.raises(jinja2.UndefinedError):
        templates.write("report.html.j2", tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
