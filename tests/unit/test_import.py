"""`import edgetam_jax` is quick: what only some users need is imported where it is used."""

import subprocess
import sys

HEAVY = {
    "PIL",
    "av",
    "gradio",
    "grain",
    "huggingface_hub",
    "matplotlib",
    "optax",
    "orbax",
    "pandas",
    "scipy",
    "tensorboardX",
    "tensorstore",
    "torch",
    "torchvision",
    "transformers",
}


def test_heavy_packages_stay_out() -> None:
    code = "import sys, edgetam_jax; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {"edgetam_jax", "jax", "flax"} <= imported
    assert not HEAVY & imported
