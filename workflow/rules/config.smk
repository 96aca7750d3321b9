# Reads and validates config.yaml and its overlays. Snakemake adds this folder to Python's path.
import sys
from pathlib import Path

import config_files
import recipes
import validation

config_files.check([Path(workflow.basedir, "config.yaml")])


configfile: f"{workflow.basedir}/config.yaml"


# sys.exit, not WorkflowError: that would add a location in this file, but the error is in the config.
if errors := validation.errors(config):
    sys.exit("\n".join(errors))

config["runs"] = recipes.expanded(config)
