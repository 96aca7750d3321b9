import pytest

from ccnet import InputError, cli
from ccnet.commands import describe
from ccnet.models import BACKBONES, build
from ccnet.ops import flops


@pytest.mark.parametrize("name", BACKBONES)
def test_the_parts_are_the_whole(name):
    model = build(name, 19)
    parts = describe.parts(model, 128)
    model.eval()
    trained = [value for key, value in build(name, 19).named_parameters() if not value.is_stop_grad()]
    assert sum(part.parameters for part in parts) == sum(value.numel() for value in trained)
    used = sum(part.flops for part in parts if part.name != describe.TRAINING_ONLY)
    assert used == sum(flops.count(model, (1, 3, 128, 128)).values())
    assert all(part.parameters and part.flops for part in parts)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_strides_are_those_of_the_levels(output_stride):
    found = describe.parts(build("resnet18", 19, output_stride=output_stride), 256)
    strides = {part.name: 256 // part.output[2] for part in found if part.output}
    assert list(strides) == ["stage 1", "stage 2", "stage 3", "stage 4"]
    assert list(strides.values()) == [min(stride, output_stride) for stride in (4, 8, 16, 32)]


def test_attention_counts_once_a_loop():
    def attention(recurrence: int) -> int:
        found = describe.parts(build("van_tiny", 19, recurrence), 64)
        return sum(part.flops for part in found if part.name == "attention")

    assert [attention(recurrence) for recurrence in range(4)] == [attention(1) * r for r in range(4)]


def test_the_table_of_the_command(capsys):
    assert cli.main(["describe", "resnet101", "--size", "512"]) == 0
    shown = capsys.readouterr().out
    rows = {line[:16].strip(): line[16:].split() for line in shown.splitlines()}
    assert shown.startswith("resnet101 + rcca, R = 2, 19 classes, image 512 × 512\n")
    assert rows["stage 4"][:2] == ["8", "2048"]
    # the attention module alone: 2 loops over 64 × 64 positions of 512 channels
    assert rows["attention"] == ["328,321", "6.58", "G"]
    assert list(rows).index("total") < list(rows).index("auxiliary head")


def test_an_image_of_any_size_is_described_at_once(capsys):
    assert cli.main(["describe", "van_large", "--size", "65536", "--fusion", "--output-stride", "8"]) == 0
    assert "65536 × 65536" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "resnet19"}, "resnet101"),
        ({"name": "van_tiny", "plain_stem": True}, "no such stem"),
        ({"name": "resnet18", "size": 31}, "at least 32"),
    ],
    ids=["backbone", "stem", "size"],
)
def test_what_cannot_be_described_is_refused(options, said, capsys):
    with pytest.raises(InputError, match=said):
        describe.run(**options)
    assert capsys.readouterr().out == ""
