# Reads and validates config.yaml and its overlays. Snakemake adds this folder to Python's path.
import sys
from pathlib import Path

import config_files
import recipes
import validation

config_files.check([Path(workflow.basedir, "config.yaml")])


configfile: f"{workflow.basedir}/config.yaml"


# sys.exit, not WorkflowError: that would add a location in this file, but the error is in the config.
# Jobs do not look for the user's files: their machine may lack those that other jobs need.
errors = validation.errors(config)
if workflow.is_main_process and not errors:
    errors = validation.absences(config)
if errors:
    sys.exit("\n".join(errors))

config["runs"] = recipes.expanded(config)
