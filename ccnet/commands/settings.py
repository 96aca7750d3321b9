"""`ccnet settings`: write a run's settings.json from hyperparameters by name, and from the weights it begins with."""

from pathlib import Path

from ccnet.files import write_json
from ccnet.settings import Settings
from ccnet.weights import initial


def run(*, flat: dict, out: Path, pretrained: Path | None = None) -> None:
    """Validate hyperparameters, given by their names in config.yaml, and write them as a settings.json.

    With `pretrained`, they name that file by its SHA-256, and a deep stem whose width they leave open has the file's.
    Raises InputError that names each invalid hyperparameter, or for weights of another backbone.
    """
    if pretrained is None:
        write_json(out, Settings.from_flat(flat).as_dict())
        return
    source = initial.read(pretrained)
    flat = flat | {"pretrained": source.digest}
    if flat.get("stem_channels") is None and flat.get("deep_stem"):
        flat["stem_channels"] = source.stem_channels
    settings = Settings.from_flat(flat)
    source.check(settings.model)
    write_json(out, settings.as_dict())
