"""Synthetic clips, see `clips`."""

from edgetam_jax.training.synthetic.clips import Clip as Clip
from edgetam_jax.training.synthetic.clips import make_clip as make_clip
from edgetam_jax.training.synthetic.config import ClipConfig as ClipConfig
