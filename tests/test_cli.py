import subprocess
import sys

import pytest

import ccnet
from ccnet import cli


def test_help_lists_every_verb_without_loading_any_of_them():
    code = "import sys; from ccnet import cli; cli.build_parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"jittor", "numpy", "pydantic"} & set(loaded)
    assert all(command in cli.build_parser().format_help() for command in cli.COMMANDS)


def test_usage_errors_exit_with_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--nonsense"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ccnet.InputError("config.yaml: steps: -1"), "config.yaml: steps: -1"),
        (OSError(28, "No space left on device", "w.safetensors"), "No space left on device: 'w.safetensors'"),
        (RuntimeError("two\nlines"), "two lines"),
        (
            RuntimeError("x" * 500 + "\n[Reason]: no such\nkernel"),
            "RuntimeError: no such kernel; this is a fault of ccnet",
        ),
    ],
)
def test_errors_are_one_line_and_exit_1(error, said, monkeypatch, capsys):
    monkeypatch.setattr("ccnet.commands.settings.run", lambda **_: (_ for _ in ()).throw(error))
    assert cli.main(["settings", "{}", "--out", "x"]) == 1
    captured = capsys.readouterr().err
    assert captured.startswith("ccnet settings: error: ")
    assert said in captured
    assert captured.count("\n") == 1


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr("ccnet.commands.settings.run", lambda **_: (_ for _ in ()).throw(RuntimeError("deep down")))
    with pytest.raises(RuntimeError, match="deep down"):
        cli.main(["settings", "{}", "--out", "x", "--debug"])


def test_interruption_exits_130(monkeypatch):
    monkeypatch.setattr("ccnet.commands.settings.run", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert cli.main(["settings", "{}", "--out", "x"]) == 130


def test_python_m_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "ccnet", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"ccnet {ccnet.__version__}"
