import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError, cli
from ccnet.arguments import COMMANDS
from ccnet.commands import export
from tests import tiny

FORMATS = ["onnx", "torchscript", "pytorch", "mmsegmentation", "official"]
PAGE = (Path(__file__).parents[2] / "docs/export.md").read_text()


def test_every_format_is_a_choice_and_a_module(capsys):
    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    assert "{" + ",".join(FORMATS) + "}" in capsys.readouterr().out
    assert "export" in COMMANDS
    for name in FORMATS:
        assert callable(export._imported(name)[1].write)


@pytest.mark.parametrize("to", FORMATS[:3])
def test_a_file_in_a_new_folder_and_a_line_on_its_use(trained: tiny.Trained, tmp_path, capsys, to):
    out = tmp_path / "new" / "network.any"
    assert cli.main(["export", str(trained.weights), "--to", to, "--out", str(out)]) == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert capsys.readouterr().out.startswith(f"{out}: {to}, van_tiny; ")


def test_a_network_that_the_format_cannot_express_leaves_no_file(trained: tiny.Trained, tmp_path, capsys):
    out = tmp_path / "w.pth"
    assert cli.main(["export", str(trained.weights), "--to", "official", "--out", str(out)]) == 1
    assert "backbone van_tiny, not a ResNet" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_the_weights_are_not_overwritten(trained: tiny.Trained):
    with pytest.raises(InputError, match="these are the weights themselves"):
        export.run(weights_file=trained.weights, to="onnx", out=trained.weights)
    with pytest.raises(InputError, match="these are the weights themselves"):
        export.run(weights_file=trained.weights.parent, to="onnx", out=trained.weights)


@pytest.mark.parametrize("library", ["torch", "onnx"])
def test_without_its_libraries_the_extra_is_named(trained: tiny.Trained, tmp_path, library):
    """In a process that cannot import the library."""
    arguments = ["export", str(trained.weights), "--to", "onnx", "--out", str(tmp_path / "w.onnx")]
    code = f"import sys; sys.modules[{library!r}] = None; from ccnet import cli; sys.exit(cli.main({arguments}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(rf"--to onnx: needs {library}, .*: pip install -e '\.\[export\]'", done.stderr)


@pytest.fixture
def beside(trained: tiny.Trained, tmp_path, monkeypatch):
    """A folder with a photo and the files that the page's examples read."""
    Image.fromarray(tiny.draw(1)[0]).save(tmp_path / "photo.jpg")
    for to, name in (("onnx", "network.onnx"), ("torchscript", "network.pt"), ("pytorch", "network.pth")):
        export.run(weights_file=trained.weights, to=to, out=tmp_path / name)
    (tmp_path / "weights.safetensors").write_bytes(trained.weights.read_bytes())
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_the_pages_examples_run_as_they_stand_and_agree(beside):
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found = []
    for example in examples:
        names: dict = {}
        exec(example, names)
        found.append(np.asarray(names["classes"]))
    assert len(found) == 4
    assert all(np.array_equal(classes, found[0]) for classes in found)
    assert found[0].shape == tiny.draw(1)[1].shape
