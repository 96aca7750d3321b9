"""Entry point of `python -m ccnet`, the same as `ccnet`."""

import sys

from ccnet.cli import main

sys.exit(main())
