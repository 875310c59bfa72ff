"""Synthetic clips, see `clips`."""

from edgetam_jax.data.synthetic.clips import Clip as Clip
from edgetam_jax.data.synthetic.clips import make_clip as make_clip
from edgetam_jax.data.synthetic.config import ClipConfig as ClipConfig
