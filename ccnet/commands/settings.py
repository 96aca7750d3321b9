"""`ccnet settings`: write a run's settings.json from hyperparameters by name."""

import json
from pathlib import Path

from ccnet.files import atomic
from ccnet.settings import Settings


def run(*, flat: dict, out: Path) -> None:
    """Validate hyperparameters, given by their names in config.yaml, and write them as a settings.json.

    Raises InputError that names each invalid one.
    """
    settings = Settings.from_flat(flat)
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(settings.as_dict(), indent=1) + "\n")
