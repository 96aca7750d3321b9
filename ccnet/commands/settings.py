"""`ccnet settings`: write a run's settings.json from hyperparameters by name."""

from pathlib import Path

from ccnet.files import write_json
from ccnet.settings import Settings


def run(*, flat: dict, out: Path) -> None:
    """Validate hyperparameters, given by their names in config.yaml, and write them as a settings.json.

    Raises InputError that names each invalid one.
    """
    write_json(out, Settings.from_flat(flat).as_dict())
