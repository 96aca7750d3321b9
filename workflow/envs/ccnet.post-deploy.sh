#!/bin/bash
set -euo pipefail
python -m pip install --requirement requirements.lock
python -m pip install --no-deps --editable .
