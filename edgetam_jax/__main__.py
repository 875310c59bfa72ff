import sys

from edgetam_jax.cli import main

sys.exit(main())
