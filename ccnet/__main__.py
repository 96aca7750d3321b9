"""`python -m ccnet` is `ccnet`."""

import sys

from ccnet.cli import main

sys.exit(main())
