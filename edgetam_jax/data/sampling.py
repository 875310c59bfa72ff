"""What of a video becomes an example: which frames, and which objects."""

from typing import NamedTuple

import numpy as np

from edgetam_jax.data.datasets import NO_WHITE
from edgetam_jax.data.footage import Footage, NothingShownError


class Sample(NamedTuple):
    frames: list[int]  # T annotated frames, in the order in which the clip shows them
    objects: list[int]  # the objects chosen, up to O, in random order


def sample(
    footage: Footage, frames: int, objects: int, stride: int, backwards: float, least: float, rng: np.random.Generator
) -> Sample:
    """Draws consecutive annotated frames, and objects among those that the first of them shows, as SAM 2's training.

    Frames are every s-th, s up to `stride` as far as the video is long enough; a share of clips goes `backwards`. What
    is shorter than a clip is played to and fro. An object counts as shown where it covers at least the share `least`.
    """
    count = len(footage)
    steps = max(1, min(stride, (count - 1) // max(frames - 1, 1)))
    offsets = np.arange(frames) * rng.integers(1, steps, endpoint=True)
    direction = -1 if rng.random() < backwards else 1
    # To and fro, all frames but the two at the ends come twice before it begins again.
    period = max(2 * (count - 1), 1)
    for start in rng.permutation(count - offsets[-1] if offsets[-1] < count else period):
        places = (start + offsets) % period
        chosen = [int(place) for place in np.minimum(places, period - places)[::direction]]
        shown = [obj_id for obj_id, share in footage.shares(chosen[0]).items() if share >= least]
        if shown:
            order = rng.permutation(len(shown))[:objects]
            return Sample(chosen, [shown[i] for i in order])
    raise NothingShownError(
        f"{footage.name}: none of the {count} annotated frames on which a clip could begin shows an object that is "
        f"large enough. Remove it from the dataset, or train at a larger image size. {NO_WHITE}"
    )
