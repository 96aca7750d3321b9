"""Shared by all tests."""

import json

import pytest
from hypothesis import settings

from tests import tiny

# repeatable, and without deadlines: no test judges by time
settings.register_profile("ccnet", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("ccnet")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: of two processes, neither should wait for the other at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("training", "weights", "workflow"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        from ccnet import runtime

        if runtime.PROBLEM:
            pytest.skip(runtime.PROBLEM)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tiny.Trained:
    """The tiny network of `tests.tiny`, trained once for all tests; for looking only."""
    from ccnet.commands import train

    folder = tmp_path_factory.mktemp("trained")
    shards = [tiny.shard(folder / f"train-{k}.h5", range(k, 12, 2)) for k in range(2)]
    made = tiny.Trained(folder / "settings.json", shards, folder / "weights.safetensors", folder / "history.csv")
    made.settings.write_text(json.dumps(tiny.settings().as_dict()))
    train.run(settings=made.settings, shards=shards, checkpoints=folder / "checkpoints", out=made.weights,
              history=made.history, workers=0, device="cpu")  # fmt: skip
    return made


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    from tests.page.browser import CHROMIUM

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
