from ccnet.commands import efficiency
from ccnet.results import Efficiency, read


def test_criss_cross_attention_takes_less_than_weights_of_all_pairs(tmp_path, monkeypatch):
    heads = ("R = 2", "non-local, stored")
    monkeypatch.setattr(efficiency, "HEADS", {name: efficiency.HEADS[name] for name in heads})
    efficiency.run(out=tmp_path / "efficiency.csv", sides=(65,), repeats=1)
    few, many = read(tmp_path / "efficiency.csv", list[Efficiency], "efficiency")
    assert (few.head, many.head) == heads
    assert few.side == many.side == 65
    assert few.gflops < 0.3 * many.gflops
    assert few.megabytes < many.megabytes
    assert few.threads > 0
    assert "non-local" in (tmp_path / "efficiency.svg").read_text()


def test_weights_of_all_pairs_are_stored_on_small_maps_only():
    found = list(efficiency.cases((129, 161)))
    assert ("non-local, stored", 129) in found
    assert ("non-local, stored", 161) not in found
    assert ("non-local", 161) in found
