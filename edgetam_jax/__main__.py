import sys

from edgetam_jax.cli.main import main

sys.exit(main())
