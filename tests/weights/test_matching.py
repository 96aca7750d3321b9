from ccnet.weights.matching import Match, some


def test_the_report_has_a_line_for_each_outcome_with_the_first_names():
    match = Match(dict.fromkeys("abcde", 0), ["fc.weight"], [], {"x": "(2,) where (3,) is needed"})
    assert match.report() == [
        "  matched            5  a, b, c, d, …",
        "  unused             1  fc.weight",
        "  missing            0",
        "  shape mismatch     1  x (2,) where (3,) is needed",
    ]


def test_four_names_are_shown_whole():
    assert some(["a", "b", "c", "d"]) == "a, b, c, d"
