import builtins
import re
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


@pytest.mark.parametrize("library", ["torch", "onnx"])
def test_without_its_libraries_the_extra_is_named(trained: tiny.Trained, tmp_path, monkeypatch, library):
    """As where they are not installed: their modules and those that import them are imported anew, in vain."""
    import sys

    for name in list(sys.modules):
        if name.split(".")[0] == library or name.startswith("ccnet.export"):
            monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.split(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=library)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=rf"--to onnx: needs {library}, .*: pip install -e '\.\[export\]'"):
        export.run(weights_file=trained.weights, to="onnx", out=tmp_path / "w.onnx")


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
