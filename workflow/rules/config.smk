# config.yaml and its overlays, read and checked. Snakemake puts this folder on Python's path.
import sys
from pathlib import Path

import config_files
import validation

config_files.check([Path(workflow.basedir, "config.yaml")])


configfile: f"{workflow.basedir}/config.yaml"


# A WorkflowError would add the place in this file, which is not where the error is.
if errors := validation.errors(config):
    sys.exit("\n".join(errors))
