"""EdgeTAM in JAX: click an object once, get its mask on every frame."""

from edgetam_jax.allocator import tune
from edgetam_jax.checkpoints.api import from_pretrained, load, save
from edgetam_jax.config import EDGETAM, EDGETAM_512, EDGETAM_768, Config
from edgetam_jax.errors import EdgeTAMError
from edgetam_jax.images.automask import AutomaticMaskGenerator
from edgetam_jax.images.predictor import ImagePredictor
from edgetam_jax.images.prompts import ImagePrompts
from edgetam_jax.images.segment import encode_image, segment
from edgetam_jax.media.video import open_video
from edgetam_jax.model import Model
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.scan import State, Tracks, init_state, track, track_step

__version__ = "0.1.0"

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
