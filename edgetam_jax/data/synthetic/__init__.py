"""Synthetic clips with known masks.

`clips` makes a clip from a random key and `batches` batches of training examples. `scenes` draws what a clip contains,
from `outlines` (shapes), `textures` and `motions`, or from real images and cut-outs with `layers`; `rendering` turns
outlines into pixels.
"""

from edgetam_jax.data.synthetic.clips import SyntheticClip as SyntheticClip
from edgetam_jax.data.synthetic.clips import make_clip as make_clip
from edgetam_jax.data.synthetic.config import ClipConfig as ClipConfig
