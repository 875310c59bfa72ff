"""EdgeTAM in JAX: click an object once, get its mask on every frame."""

from typing import TYPE_CHECKING, Any

from edgetam_jax.allocator import tune
from edgetam_jax.checkpoints.api import from_pretrained, load, load_embedded, save
from edgetam_jax.config import EDGETAM, EDGETAM_512, EDGETAM_768, Config
from edgetam_jax.errors import EdgeTAMError
from edgetam_jax.images.automask import AutomaticMaskGenerator
from edgetam_jax.images.predictor import ImagePredictor
from edgetam_jax.images.prompts import ImagePrompts
from edgetam_jax.images.segment import encode_image, segment
from edgetam_jax.media.video import open_video
from edgetam_jax.model import Model
from edgetam_jax.ops.pixels import Rule
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.tracking import scan
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.scan import Direction
from edgetam_jax.tracking.state import State, Tracks, init_state
from edgetam_jax.tracking.stream import track_step

if TYPE_CHECKING:
    from edgetam_jax.export.api import export
else:
    from edgetam_jax import export  # a package that can be called

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
    "export",
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


def track(
    frames: Any,
    prompts: Prompts,
    model: Model | None = None,
    *,
    direction: Direction = "forward",
    start: int | None = None,
    state: State | None = None,
    attend_prompts: int | None = None,
    chunk: int | None = None,
    preprocess: Rule = "video",
    vectorize: bool | None = None,
    remat: bool = False,
) -> Tracks:
    """Tracks the prompted objects through a video, as one compiled program.

    Objects are tracked on every visited frame, also before their first prompt: prompts on later frames are attended to
    before they are reached. `jax.jit`, `jax.vmap` and `jax.grad` may be applied.

    Args:
        frames: [T, H, W, 3] uint8 RGB frames, or what `ops.pixels.as_frames` makes into them.
        prompts: Prompts of O objects, in pixels of the frames, see `Prompts.build`.
        model: The model. By default the small one that comes with the package, see `load`.
        direction: "forward" visits the frames from `start` on, "backward" those up to it, "both" all. On other frames
            objects are absent, with logits of -1024.
        start: The frame where tracking begins. By default the first prompted frame, or the last for "backward".
        state: The state of an earlier call, of `init_state` or of `track_step`, to continue a video forward. Frames of
            prompts are counted from the beginning of the video, and prompts on frames after these wait for a later
            call. Rows are as in `track_step`. Slots are added where there are more prompts than slots.
        attend_prompts: Limits how many conditioning frames a frame attends to, the closest first. By default all.
        chunk: Number of frames that are encoded at once. By default 1 on CPU, else 8.
        preprocess: How frames are resized: "video" as the original resizes video, "image" as it resizes images, or
            "hf" as the Hugging Face port.
        vectorize: Computes objects at once instead of one by one, which changes numbers by rounding only. By default,
            except on CPU.
        remat: Computes activations again in the backward pass, which saves memory when this is differentiated.

    Returns:
        Mask logits, scores and IoU estimates for T frames and O objects, see `Tracks`.

    Raises:
        CheckpointError: The model is for still images only.
        FrameError: The frames cannot be read as images of one size.
        PromptError: The prompts do not fit the video or the state, or an option has no meaning.
    """
    return scan.track(
        frames,
        prompts,
        load_embedded() if model is None else model,
        direction=direction,
        start=start,
        state=state,
        attend_prompts=attend_prompts,
        chunk=chunk,
        preprocess=preprocess,
        vectorize=vectorize,
        remat=remat,
    )
