import pytest

from ccnet import InputError
from ccnet.export import foreign, load
from ccnet.weights.origins import ORIGINS
from tests.export import files


def test_what_settings_leave_to_the_family_is_filled_in(saved, tmp_path):
    own = foreign.resolved(load(saved["van_tiny"]))
    assert (own["output_stride"], own["fusion"], own["stem_channels"]) == (32, True, 64)
    assert (own["head_channels"], own["auxiliary_channels"]) == (16, 80)
    path = files.save(tmp_path / "w.safetensors", backbone="resnet18", output_stride=None, head_channels=None)
    own = foreign.resolved(load(path))
    assert (own["output_stride"], own["fusion"], own["head_channels"], own["auxiliary_channels"]) == (
        8,
        False,
        128,
        128,
    )


@pytest.mark.parametrize(
    ("name", "said"), [("van_tiny", "backbone van_tiny, not a ResNet"), ("resnet18", 'head "rcca", not "non_local"')]
)
def test_settings_that_differ_are_named(saved, name, said):
    with pytest.raises(InputError, match=f"^--to x: its CCNet cannot be this network, which has {said}; onnx, "):
        foreign.require(load(saved[name]), {"head": "non_local"}, "x")


def test_settings_that_agree_pass(saved):
    foreign.require(load(saved["non_local"]), {"head": "non_local", "multi_grid": True}, "x")


def test_without_attention_it_is_none_of_theirs(tmp_path):
    path = files.save(tmp_path / "w.safetensors", backbone="resnet18", recurrence=0)
    with pytest.raises(InputError, match="has recurrence 0, not 1 or more"):
        foreign.require(load(path), {"fusion": False}, "x")


def test_the_embedding_stays_here(tmp_path):
    path = files.save(tmp_path / "w.safetensors", backbone="resnet18", category_consistency=0.1)
    names = foreign.arrays(load(path))
    assert "classifier.conv.weight" in names
    assert not [name for name in names if name.startswith("embedding") or name.endswith("num_batches_tracked")]


def test_a_tensor_without_a_counterpart_is_an_error(saved):
    values = foreign.arrays(load(saved["van_tiny"]))
    with pytest.raises(KeyError, match="mmsegmentation's CCNet has no name"):
        foreign.renamed(values, foreign.origin("mmsegmentation's CCNet"))
    assert foreign.origin("official CCNet") in ORIGINS
