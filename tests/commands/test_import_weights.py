import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from ccnet import InputError, cli, weights
from ccnet.commands import import_weights, segment
from ccnet.contenders.inputs import drawn
from ccnet.data.labels import voc_colours
from ccnet.predictor import Predictor
from ccnet.runtime import jt
from tests import tiny
from tests.ops.helpers import assert_close
from tests.serving import serving
from tests.weights import naming


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def metadata(path: Path) -> dict:
    with safe_open(path, framework="numpy") as file:
        return {key: json.loads(value) for key, value in file.metadata().items()}


@pytest.fixture
def jittor_file(tmp_path) -> tuple[Path, dict[str, np.ndarray]]:
    """A VAN's state dict as Jittor saves it, and what should become of it; needs no torch."""
    _, ours, theirs = naming.published("VAN")
    jt.save(theirs, str(tmp_path / "van.pkl"))
    return tmp_path / "van.pkl", ours


def save_torch(path: Path, state: dict[str, np.ndarray], *, stream: bool = False, **beside) -> Path:
    import torch

    tensors = {name: torch.from_numpy(np.array(values)) for name, values in state.items()}
    torch.save({"state_dict": tensors, **beside}, path, _use_new_zipfile_serialization=not stream)
    return path


@pytest.mark.parametrize(
    ("kind", "stream"),
    [*((kind, False) for kind in naming.KINDS if kind not in naming.NETWORKS), ("torchvision", True), ("VAN", True)],
)
def test_a_backbone_arrives_whole(tmp_path, kind, stream):
    backbone, ours, theirs = naming.published(kind)
    source, out = save_torch(tmp_path / "w.pth", theirs, stream=stream), tmp_path / "out.safetensors"
    import_weights.run(source=str(source), backbone=backbone, out=out)
    arrived = load_file(out)
    assert arrived.keys() == ours.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(arrived[name], values, err_msg=name)
    stem = {"torchvision": (False, None), "MIT": (True, 64), "ResNetV1c": (True, 32), "VAN": (None, None)}[kind]
    assert metadata(out) == {
        "part": "backbone", "backbone": backbone, "deep_stem": stem[0], "stem_channels": stem[1],
        "source_sha256": sha256(source),
    }  # fmt: skip


def test_a_jittor_file_arrives_whole(tmp_path, jittor_file):
    source, ours = jittor_file
    import_weights.run(source=str(source), backbone="van_tiny", out=tmp_path / "out.safetensors")
    arrived = load_file(tmp_path / "out.safetensors")
    assert arrived.keys() == ours.keys()
    assert all((arrived[name] == values).all() for name, values in ours.items())


@pytest.mark.parametrize(("kind", "stream"), [("official", True), ("mmsegmentation", False)])
def test_a_whole_ccnet_is_ready_to_segment(tmp_path, kind, stream):
    backbone, ours, theirs = naming.published(kind)
    source, out = save_torch(tmp_path / "w.pth", theirs, stream=stream), tmp_path / "out.safetensors"
    (tmp_path / "classes.txt").write_text("road\nsky\ncar\ntree\npole\n")
    import_weights.run(source=str(source), backbone=backbone, out=out, classes=tmp_path / "classes.txt")
    arrived, official = load_file(out), kind == "official"
    for name, values in ours.items():
        scale = official and name.endswith(
            (*(f"bn{i}.weight" for i in (1, 2, 3)), "norm.weight", "downsample.1.weight")
        )
        turned = values[:, ::-1] if official and name == "backbone.conv1.weight" else values
        np.testing.assert_array_equal(arrived[name], np.abs(turned) + 1e-5 if scale else turned, err_msg=name)
    loaded = weights.load(out)
    assert loaded.settings.as_dict().keys() == {"model"}  # how it was trained, its file does not say
    model = loaded.settings.model
    assert loaded.class_names == ["road", "sky", "car", "tree", "pole"]
    assert loaded.palette == [list(colour) for colour in voc_colours(5)]
    assert (model.backbone, model.deep_stem, model.recurrence) == (backbone, True, 2)
    assert (model.stem_channels, model.auxiliary_channels) == ((64, 128) if official else (32, 256))
    assert (model.align_corners, model.contract_dilation) == (official, not official)
    assert model.negative_slope == (0.01 if official else 0)
    assert model.pretrained == sha256(source)
    tiny_image(tmp_path / "photos")
    segment.run(inputs=[tmp_path / "photos"], weights_file=out, out=tmp_path / "segmented", device="cpu")
    assert ",ok," in (tmp_path / "segmented" / "index.csv").read_text()


def official_logits(state: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """Logits `(C, H, W)` of the official network: of B, G, R minus their mean, in norms that scale by |weight| + 1e-5.

    `state` has our names, but the official values.
    """
    import torch

    from ccnet.export.networks import CCNet

    network = CCNet("resnet18", naming.CLASSES, 128, align_corners=True, negative_slope=0.01, deep_stem=True,
                    contract_dilation=False).eval()  # fmt: skip
    norms = {name.removesuffix(".running_var") + ".weight" for name in state if name.endswith("running_var")}
    scaled = {name: np.abs(values) + 1e-5 if name in norms else values for name, values in state.items()}
    network.load_state_dict({name: torch.tensor(values) for name, values in scaled.items()}, strict=False)
    pixels = image[:, :, ::-1] - np.array([104.00698793, 116.66876762, 122.67891434], np.float32)
    return network(torch.tensor(pixels.transpose(2, 0, 1)[None].astype(np.float32)))[0].detach().numpy()


def test_the_official_network_computes_the_same_up_to_the_border(tmp_path):
    """Its convolutions pad with zeros what its own mean was taken from; the fainter an image, the more that tells."""
    backbone, shapes, _ = naming.published("official")
    state = {name: drawn(name, values.shape) for name, values in shapes.items()}
    state["head.before.norm.weight"] *= -1
    theirs = {naming.renamed(name, naming.OFFICIAL): values for name, values in state.items()}
    source, out = save_torch(tmp_path / "w.pth", theirs), tmp_path / "out.safetensors"
    import_weights.run(source=str(source), backbone=backbone, out=out)
    image = np.array([123, 117, 104]) + np.random.default_rng(0).integers(-2, 3, (49, 65, 3))
    expected = official_logits(state, image)
    found = Predictor(weights.load(out).model)._logits(image.astype(np.uint8)).numpy()
    assert_close(found, expected, 1e-3)


def tiny_image(folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    Image.fromarray(tiny.draw(0)[0]).save(folder / "one.png")


def test_the_class_names_are_those_that_mmsegmentation_notes(tmp_path):
    backbone, _, theirs = naming.published("mmsegmentation")
    names = ("a", "b", "c", "d", "e")
    source = save_torch(tmp_path / "w.pth", theirs, meta={"CLASSES": names, "mmseg_version": "0.5"})
    import_weights.run(source=str(source), backbone=backbone, out=tmp_path / "out.safetensors")
    assert metadata(tmp_path / "out.safetensors")["class_names"] == list(names)


def test_without_names_classes_have_numbers_and_too_many_names_are_refused(tmp_path):
    backbone, _, theirs = naming.published("official")
    source, out = save_torch(tmp_path / "w.pth", theirs), tmp_path / "out.safetensors"
    import_weights.run(source=str(source), backbone=backbone, out=out)
    assert metadata(out)["class_names"] == [f"class_{number}" for number in range(naming.CLASSES)]
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    with pytest.raises(InputError, match=r"classes\.txt: 2 class names for a network of 5 classes"):
        import_weights.run(source=str(source), backbone=backbone, out=out, classes=tmp_path / "classes.txt")


def test_a_tensor_of_another_shape_is_told_and_can_be_skipped(tmp_path, capsys):
    backbone, ours, theirs = naming.published("mmsegmentation")
    theirs["auxiliary_head.conv_seg.weight"] = theirs["auxiliary_head.conv_seg.weight"][:, :100]
    options = {"source": str(save_torch(tmp_path / "w.pth", theirs)), "backbone": backbone}
    with pytest.raises(InputError, match=r"leaves 1 parameters unfilled .*--skip auxiliary"):
        import_weights.run(**options, out=tmp_path / "out.safetensors")
    assert "shape mismatch     1  auxiliary.classifier.conv.weight (5, 100, 1, 1) where (5, 256, 1, 1)" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "out.safetensors").exists()
    import_weights.run(**options, out=tmp_path / "out.safetensors", skip=["auxiliary"])
    arrived = load_file(tmp_path / "out.safetensors")
    assert arrived.keys() == ours.keys()
    assert (arrived["head.attention.gamma"] == ours["head.attention.gamma"]).all()


def test_the_key_report(tmp_path, jittor_file, capsys):
    source, ours = jittor_file
    import_weights.run(source=str(source), backbone="van_tiny", out=tmp_path / "out.safetensors")
    first, *rows, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{source}: VAN classifier, ")
    assert rows[0] == f"  matched          {len(ours)}  {', '.join(list(ours)[:4])}, …"
    assert rows[1:] == [
        "  unused             2  head.weight, head.bias",
        "  missing            0",
        "  shape mismatch     0",
    ]
    assert last == f"{tmp_path / 'out.safetensors'}: backbone of van_tiny, from SHA-256 {sha256(source)}"


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("van_small", r"leaves \d+ parameters unfilled \(backbone\..*choose another --for"),
        ("resnet18", "VAN classifier does not fit --for resnet18; name a van"),
        ("van_giant", "--for van_giant: not one of resnet18, "),
    ],
)
def test_another_backbone_is_refused(tmp_path, jittor_file, backbone, said, capsys):
    with pytest.raises(InputError, match=said):
        import_weights.run(source=str(jittor_file[0]), backbone=backbone, out=tmp_path / "out.safetensors")
    if backbone == "van_small":
        assert "(32, 3, 7, 7) where (64, 3, 7, 7) is needed" in capsys.readouterr().out


def test_a_skip_without_effect_is_an_error(tmp_path, jittor_file):
    with pytest.raises(InputError, match="--skip auxilliary: no parameter's name begins so; they begin with backbone"):
        import_weights.run(
            source=str(jittor_file[0]), backbone="van_tiny", out=tmp_path / "out.safetensors", skip=["auxilliary"]
        )


@pytest.mark.parametrize(("digits", "said"), [("0" * 64, "its SHA-256 is .*, not 000"), ("abc", "64 hexadecimal")])
def test_a_checksum_that_is_another_is_refused(tmp_path, jittor_file, digits, said):
    with pytest.raises(InputError, match=said):
        import_weights.run(
            source=str(jittor_file[0]), backbone="van_tiny", out=tmp_path / "out.safetensors", sha256=digits
        )


def test_an_address_needs_its_checksum_and_is_downloaded_once(tmp_path, jittor_file):
    source, _ = jittor_file
    out = tmp_path / "pretrained" / "out.safetensors"
    with serving({"/van.pkl": source.read_bytes()}) as site:
        address = f"{site.url}/van.pkl"
        with pytest.raises(InputError, match="needs --sha256"):
            import_weights.run(source=address, backbone="van_tiny", out=out)
        for _ in range(2):
            import_weights.run(source=address, backbone="van_tiny", out=out, sha256=sha256(source))
        assert len(site.requests) == 1
    assert metadata(out)["source_sha256"] == sha256(source)


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_malicious_file_fails_in_one_line_and_does_nothing(tmp_path, capsys):
    mark, source = tmp_path / "ran", tmp_path / "w.pkl"
    source.write_bytes(pickle.dumps({"state_dict": {"conv1.weight": Malicious(f"touch {mark}")}}))
    done = cli.main(["import-weights", str(source), "--for", "resnet18", "--out", str(tmp_path / "out.safetensors")])
    said = capsys.readouterr().err
    assert done == 1
    assert said.startswith(f"ccnet import-weights: error: {source}: asks for posix.system")
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pkl"]


def test_a_backbone_alone_is_no_network(tmp_path, jittor_file):
    import_weights.run(source=str(jittor_file[0]), backbone="van_tiny", out=tmp_path / "van.safetensors")
    with pytest.raises(InputError, match="not the weights of a whole network"):
        weights.load(tmp_path / "van.safetensors")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "mmseg-ade20k-r51"}, "mmseg-ade20k-r51: neither a file .*; did you mean mmseg-ade20k-r50"),
        ({"source": "van.pth"}, "van.pth: neither a file nor the name of published weights; .*`ccnet weights` lists"),
        ({"source": "{file}"}, r"van\.pkl: a file or an address needs --for, the backbone: one of resnet18, "),
        (
            {"source": "{own}", "backbone": "van_tiny"},
            r"weights\.safetensors: only \.pth .*; weights of ccnet are ready",
        ),
        ({"source": "imagenet-van_tiny", "backbone": "van_base"}, "--for van_base: imagenet-van_tiny is a van_tiny"),
    ],
)
def test_what_is_to_be_imported_must_be_clear(tmp_path, jittor_file, trained, options, said):
    options = options | {"source": options["source"].format(file=jittor_file[0], own=trained.weights)}
    with pytest.raises(InputError, match=said) as refused:
        import_weights.run(**options, out=tmp_path / "out.safetensors")
    assert "\n" not in str(refused.value)
