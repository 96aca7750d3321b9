"""`ccnet settings`: hyperparameters by name -> a run's settings.json."""

import json
from pathlib import Path

from ccnet.files import atomic
from ccnet.settings import Settings


def run(*, flat: dict, out: Path) -> None:
    """Write hyperparameters, by the names that config.yaml uses, as a checked settings.json."""
    settings = Settings.from_flat(flat)
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(settings.as_dict(), indent=1) + "\n")
