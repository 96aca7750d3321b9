from ccnet.page import efficiency
from tests.reported import COSTS


def test_every_attention_and_measure_is_drawn():
    drawn = efficiency.svg(COSTS)
    for text in ("R = 2", "non-local", "GFLOPs", "seconds", "MB beyond the input"):
        assert f">{text}</text>" in drawn
    assert drawn == efficiency.svg(COSTS)
    assert "currentColor" in drawn
    assert 'fill="white"' not in drawn
    assert 'fill="white"' in efficiency.svg(COSTS, "white")
