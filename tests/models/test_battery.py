"""One battery for all backbones: whatever stands in `BACKBONES` gets every test here."""

from pathlib import Path

import numpy as np
import pytest

from ccnet import InputError
from ccnet.models import BACKBONES, build
from ccnet.models.van import VAN
from ccnet.ops.batch_norm import BatchNorm
from ccnet.ops.losses import cross_entropy
from ccnet.runtime import jt
from tests.models.networks import CLASSES, SMALLEST, difference, images, network, torch_twin

ROOT = Path(__file__).parents[2]
SIZES = [(64, 96), (65, 47), (33, 32)]
VARIANTS: list[dict] = [
    {"output_stride": 8, "fusion": False},
    {"output_stride": 16, "fusion": False},
    {"output_stride": 32, "fusion": False},
    {"output_stride": 16, "fusion": True},
    {"recurrence": 0},
    {"recurrence": 1},
    {"recurrence": 3},
    {"head": "non_local", "recurrence": 1},
    {"align_corners": True, "negative_slope": 0.01, "fusion": True},
]
RESNET_VARIANTS: list[dict] = [
    {"deep_stem": False},
    {"stem_channels": 32},  # mmsegmentation's
    {"multi_grid": True},
    {"multi_grid": True, "output_stride": 16, "contract_dilation": False},
    {"align_corners": True, "negative_slope": 0.01, "contract_dilation": False},  # the official CCNet
]
# parameters in millions as classifiers of 1000 classes: the backbone, its last norm included, and a linear layer; a
# ResNet with its plain stem. VAN's README and paper (Table 5), torchvision's table of weights.
PUBLISHED = {
    "resnet18": 11.69, "resnet34": 21.80, "resnet50": 25.56, "resnet101": 44.55,
    "van_tiny": 4.1, "van_small": 13.9, "van_base": 26.6, "van_large": 44.8,
}  # fmt: skip


@pytest.fixture(params=BACKBONES, scope="module")
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def pair(name):
    """Our network and PyTorch's."""
    model = network(name)
    return model, torch_twin(model, name)


def logits_of_both(model, twin, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    import torch

    x = images(*size)
    with torch.no_grad():
        expected = twin(torch.tensor(x)).numpy()
    return model(jt.array(x)).numpy(), expected


def labels_for(x: np.ndarray) -> np.ndarray:
    labels = np.random.default_rng(1).integers(0, CLASSES, (x.shape[0], *x.shape[2:]))
    labels[:, :9] = 255
    return labels


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_logits_agree_with_torch(pair, size):
    assert difference(*logits_of_both(*pair, size)) < 1e-4


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("smallest", SMALLEST)
def test_variants_agree_with_torch(smallest, options):
    model = network(smallest, **options)
    assert difference(*logits_of_both(model, torch_twin(model, smallest, **options), (64, 47))) < 1e-4


@pytest.mark.parametrize("options", RESNET_VARIANTS, ids=str)
@pytest.mark.parametrize("smallest", ["resnet18", "resnet50"])
def test_variants_of_a_resnet_agree_with_torch(smallest, options):
    test_variants_agree_with_torch(smallest, options)


def training_step(model, x: np.ndarray, labels: np.ndarray) -> tuple[dict, dict]:
    """Gradients of the loss by parameter, and the running statistics behind the step."""
    model.train()
    logits, auxiliary = model(jt.array(x))
    labels = jt.array(labels.astype(np.int32))
    loss = cross_entropy(logits, labels) + 0.4 * cross_entropy(auxiliary, labels)
    parameters = {key: value for key, value in model.named_parameters() if not value.is_stop_grad()}
    gradients = jt.grad(loss, list(parameters.values()))
    running = {key: value.numpy() for key, value in model.state_dict().items() if "running" in key}
    model.eval()
    return dict(zip(parameters, (gradient.numpy() for gradient in gradients), strict=True)), running


def torch_training_step(twin, x: np.ndarray, labels: np.ndarray) -> tuple[dict, dict]:
    import torch

    from ccnet.contenders.theirs import loss

    twin.train().zero_grad()
    loss(twin, torch.tensor(x), torch.tensor(labels)).backward()
    running = {key: value.clone().numpy() for key, value in twin.named_buffers() if "running" in key}
    twin.eval()
    return {key: value.grad.numpy() for key, value in twin.named_parameters()}, running


@pytest.fixture
def smooth(monkeypatch):
    """GELU for ReLU and mean for max-pooling, in both networks.

    At a kink rounding decides between two gradients: PyTorch's own in single and in double precision are then some
    percent apart.
    """
    import torch

    functional = torch.nn.functional
    normalise = BatchNorm.execute

    def smoothly(self, x, residual=None, slope=1.0):
        z = normalise(self, x, residual)
        return z if slope == 1 else jt.nn.gelu(z)

    monkeypatch.setattr(BatchNorm, "execute", smoothly)
    monkeypatch.setattr(jt.nn.MaxPool2d, "execute", lambda _, x: jt.nn.avg_pool2d(x, 3, 2, 1))
    monkeypatch.setattr("ccnet.export.networks.rectified", lambda x, *_: functional.gelu(x))
    monkeypatch.setattr(torch.nn.MaxPool2d, "forward", lambda _, x: functional.avg_pool2d(x, 3, 2, 1))


def test_training_agrees_with_torch(pair, smooth):
    """Every parameter's gradient, and the running statistics behind the step."""
    compare_training(*pair)


@pytest.mark.parametrize("smallest", SMALLEST)
def test_training_with_frozen_norms_agrees_with_torch(smallest, smooth):
    """PyTorch's norms are in eval mode; the running statistics stay what they were."""
    import torch

    model = network(smallest)
    twin = torch_twin(model, smallest)
    before = {key: value.numpy().tobytes() for key, value in model.state_dict().items() if "running" in key}
    for part in model.modules():
        if isinstance(part, BatchNorm):
            part.frozen = True
    for norm in twin.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.train = lambda _, norm=norm: norm
    compare_training(model, twin)
    assert {key: value.numpy().tobytes() for key, value in model.state_dict().items() if "running" in key} == before


def compare_training(model, twin) -> None:
    x = images(64, 64)
    gradients, running = training_step(model, x, labels_for(x))
    expected, expected_running = torch_training_step(twin, x, labels_for(x))
    assert set(gradients) == set(expected)
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for key, gradient in gradients.items():
        # a bias before a batch norm, or of the keys, has no effect: its gradient is rounding alone
        scale = max(np.abs(expected[key]).max(), 1e-3 * largest)
        assert np.abs(gradient - expected[key]).max() < 1e-3 * scale, key
    for key, statistic in running.items():
        assert difference(statistic, expected_running[key]) < 1e-4, key


@pytest.mark.parametrize("smallest", SMALLEST)
def test_training_agrees_with_torch_but_for_a_few_kinks(smallest):
    """With ReLU and max-pooling: the gradient as a whole."""
    model, x = network(smallest), images(64, 64)
    ours = training_step(model, x, labels_for(x))[0]
    theirs = torch_training_step(torch_twin(model, smallest), x, labels_for(x))[0]
    gradient, expected = (np.concatenate([of[key].ravel() for key in sorted(theirs)]) for of in (ours, theirs))
    assert np.linalg.norm(gradient - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("smallest", SMALLEST)
def test_outputs_of_training_agree_with_torch(smallest):
    """Less closely: normalised by a small batch, PyTorch in single and double precision are 7e-5 apart."""
    import torch

    model, x = network(smallest, embedding=5), images(64, 47)
    twin = torch_twin(model, smallest, embedding=5).train()
    model.train()
    for ours, expected in zip(model(jt.array(x)), twin(torch.tensor(x)), strict=True):
        assert difference(ours.numpy(), expected.detach().numpy()) < 1e-3


@pytest.mark.parametrize("size", [(32, 32), (33, 70), (100, 41)], ids=str)
def test_shapes_for_any_size(name, size):
    model = build(name, CLASSES, head_channels=8, embedding=3)
    model.train()
    logits, auxiliary, embedding = model(jt.zeros((2, 3, *size)))
    assert tuple(logits.shape) == tuple(auxiliary.shape) == (2, CLASSES, *size)
    assert tuple(embedding.shape[:2]) == (2, 3)
    model.eval()
    assert tuple(model(jt.zeros((2, 3, *size))).shape) == (2, CLASSES, *size)


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (1, 1)], ids=str)
def test_too_small_an_image_is_refused(name, size):
    model = build(name, CLASSES, head_channels=8)
    with pytest.raises(InputError, match=f"{size[1]}×{size[0]} pixels.*at least 32"):
        model(jt.zeros((1, 3, *size)))


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_levels_have_their_strides(name, output_stride):
    backbone = build(name, CLASSES, head_channels=8, output_stride=output_stride).backbone
    levels = backbone(jt.zeros((1, 3, 64, 128)))
    strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
    assert [tuple(level.shape) for level in levels] == [
        (1, channels, 64 // stride, 128 // stride) for channels, stride in zip(backbone.channels, strides, strict=True)
    ]


@pytest.mark.parametrize("smallest", SMALLEST)
def test_a_dilated_backbone_computes_what_the_strided_one_does(smallest):
    """At every position of the strided one; so weights trained with strides stay good."""
    dense, strided = (network(smallest, output_stride=stride, fusion=False).backbone for stride in (8, 32))
    x = jt.array(images(96, 75))
    for fine, coarse in zip(dense(x), strided(x), strict=True):
        step = 1 if fine.shape == coarse.shape else round(fine.shape[2] / coarse.shape[2])
        assert difference(fine.numpy()[:, :, ::step, ::step], coarse.numpy()) < 1e-4


def test_as_many_parameters_as_published(name):
    stem = {} if BACKBONES[name] is VAN else {"deep_stem": False}
    backbone = build(name, CLASSES, **stem).backbone
    trained = [value for value in backbone.parameters() if not value.is_stop_grad()]
    count = sum(value.numel() for value in trained) + (backbone.channels[-1] + 1) * 1000
    assert count / 1e6 == pytest.approx(PUBLISHED[name], abs=0.05 if name.startswith("van") else 0.005)


def test_attention_starts_as_the_identity_and_scores_start_small(name):
    """gamma is 0 at first; no position is preferred, and no class."""
    jt.set_global_seed(3)
    model = build(name, CLASSES)
    model.train()
    assert model.head.attention.gamma.numpy().tolist() == [0.0]
    attention = model.head.attention
    features = jt.nn.relu(jt.randn(1, model.head.before.norm.weight.shape[0], 9, 11))
    assert np.array_equal(attention(features).numpy(), features.numpy())
    query, key = (conv(features).numpy().reshape(-1, 99) for conv in (attention.query_conv, attention.key_conv))
    assert (query.T @ key).std() < 3
    for logits in model(jt.array(images(64, 64))):
        assert logits.numpy().std() < 2


def test_the_rate_of_dropped_paths_rises_with_depth():
    backbone = build("van_tiny", CLASSES, drop_path=0.1).backbone
    rates = [block.drop_path.rate for stage in range(1, 5) for block in getattr(backbone, f"block{stage}")]
    assert rates == pytest.approx(np.linspace(0, 0.1, 13))


def test_dropout_is_of_training_only():
    model = build("resnet18", CLASSES, head_channels=8, dropout=0.9)
    x = jt.array(images(32, 32))
    model.train()
    assert not np.array_equal(model(x)[0].numpy(), model(x)[0].numpy())
    model.eval()
    assert np.array_equal(model(x).numpy(), model(x).numpy())


@pytest.mark.parametrize(("name", "head"), [("resnet19", "rcca"), ("resnet18", "psp")])
def test_an_unknown_name_is_refused_with_the_known_ones(name, head):
    with pytest.raises(InputError, match=r"is not one of (resnet18|rcca), "):
        build(name, CLASSES, head=head)
