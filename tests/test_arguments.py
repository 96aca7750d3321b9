import pytest

from ccnet import cli
from ccnet.arguments import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert f"ccnet {command} " in capsys.readouterr().out
