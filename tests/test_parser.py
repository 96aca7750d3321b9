from dataclasses import fields

import pytest

from ccnet import cli
from ccnet.protocol import Protocol
from ccnet.settings import hyperparameters


def test_train_help_lists_every_hyperparameter_with_its_range(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    shown = capsys.readouterr().out
    for entry in hyperparameters().values():
        assert entry["address"] in shown
        assert entry["description"] in shown
    assert "> 0, ≤ 10" in shown


def test_a_protocol_is_flags_and_what_is_not_said_keeps_its_default():
    parse = cli.build_parser().parse_args
    plain = ["evaluate", "--weights", "w", "--shards", "s", "--out", "o"]
    flags = "--keep-ratio 2048 512 --window 512 --stride 341 --scales 0.5 1 --flip --score-at resized"
    values = {"keep_ratio": [2048, 512], "window": 512, "stride": 341, "scales": [0.5, 1.0], "flip": True}
    values["score_at"] = "resized"
    assert vars(parse([*plain, *flags.split()])) == vars(parse(plain)) | values
    assert not {field.name for field in fields(Protocol)} & set(vars(parse(plain)))
    assert Protocol.checked(**values).scales == (0.5, 1.0)
