"""`python -m edgetam_jax COMMAND ...`, the same as `edgetam-jax COMMAND ...`."""

import sys

from edgetam_jax.cli.main import main

sys.exit(main())
