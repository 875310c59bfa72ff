"""EdgeTAM in JAX: click an object once, get its mask on every frame."""

from edgetam_jax.automask import AutomaticMaskGenerator
from edgetam_jax.checkpoint import from_pretrained, load, save
from edgetam_jax.config import EDGETAM, EDGETAM_512, EDGETAM_768, Config
from edgetam_jax.errors import EdgeTAMError
from edgetam_jax.image import ImagePredictor
from edgetam_jax.image_prompts import ImagePrompts
from edgetam_jax.io import open_video
from edgetam_jax.model import Model
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.segment import encode_image, segment
from edgetam_jax.tracking import State, Tracks, init_state, track, track_step
from edgetam_jax.tune import tune
from edgetam_jax.video import VideoPredictor

__all__ = [
    "EDGETAM",
    "EDGETAM_512",
    "EDGETAM_768",
    "AutomaticMaskGenerator",
    "Config",
    "EdgeTAMError",
    "ImagePredictor",
    "ImagePrompts",
    "Model",
    "Prompt",
    "Prompts",
    "State",
    "Tracks",
    "VideoPredictor",
    "encode_image",
    "from_pretrained",
    "init_state",
    "load",
    "open_video",
    "save",
    "segment",
    "track",
    "track_step",
    "tune",
]
