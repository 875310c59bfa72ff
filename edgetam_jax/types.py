"""Named types that cross module borders, and the legend of their shapes.

A leading `...` stands for any batch axes (frames, objects, none).

    T frames            O objects            P points of a prompt
    H, W   cells of the image embedding (image_size / 16)       h, w   pixels of a mask (image_size / 4)
    C      hidden_dim                                           D      memory_dim
    F      memory frames                                        L      tokens of a memory frame
    N      object pointers
"""

import enum
from typing import NamedTuple

from jax import Array

LARGEST_ID = 255  # the largest object id that a palette image can hold
VOID = 255  # in an annotation image: pixels that count for no object and not for the background
ALL_OBJECTS = -1  # in place of an object id: a file that annotates all objects of a frame
MASK_PROMPT_CLAMP = 32.0  # low-resolution logits that are fed back as a mask prompt are clipped to +-32


class Label(enum.IntEnum):
    """What a point means. A box is a BOX_START and a BOX_END, its top left and bottom right corners."""

    ABSENT = -2  # fills a fixed shape; no token at all
    NOT_A_POINT = -1  # a token of its own that closes a list of points
    NEGATIVE = 0
    POSITIVE = 1
    BOX_START = 2
    BOX_END = 3


class ImageFeatures(NamedTuple):
    """All that the decoder and the memory need of an image."""

    embedding: Array  # [..., H, W, C]
    stride4: Array  # [..., 4H, 4W, C / 8]
    stride8: Array  # [..., 2H, 2W, C / 4]


class PromptTokens(NamedTuple):
    tokens: Array  # [..., P, C]
    valid: Array  # [..., P] bool


class MaskPrediction(NamedTuple):
    """The decoder's four masks: the first for prompts that leave no doubt, the others as alternatives."""

    logits: Array  # [..., 4, h, w]
    ious: Array  # [..., 4] its own estimate of each mask's quality, in 0..1
    tokens: Array  # [..., 4, C] what each mask was made from
    score: Array  # [...] logit: is the object in the image at all?


class ChosenMask(NamedTuple):
    logits: Array  # [..., h, w]
    iou: Array  # [...]
    token: Array  # [..., C]
    score: Array  # [...]


class ObjectPrediction(NamedTuple):
    """What the network makes of one object on one frame."""

    logits: Array  # [..., h, w]; -1024 where the object is absent
    iou: Array  # [...]
    score: Array  # [...] logit of the object's presence
    pointer: Array  # [..., C]


class ObjectMask(NamedTuple):
    """The mask of one object on one frame, and the network's estimates about it."""

    logits: Array  # [..., h, w]; -1024 where the object is absent
    iou: Array  # [...] estimate of the mask's quality, in 0..1
    score: Array  # [...] logit of the object's presence


class Memory(NamedTuple):
    """What an object is remembered by. Slots that are not valid hold anything and change nothing."""

    frames: Array  # [..., F, L, D]
    rows: Array  # [..., F] int32: each frame's row of the temporal embedding
    frames_valid: Array  # [..., F] bool
    pointers: Array  # [..., N, C]
    pointers_valid: Array  # [..., N] bool


class PromptInputs(NamedTuple):
    """What a user said about one object on one image; points that are `Label.ABSENT` fill the fixed shape."""

    points: Array  # [..., P, 2] (x, y) in pixels of the model's input
    labels: Array  # [..., P] int32, see Label
    mask: Array  # [..., h, w] logits
    has_mask: Array  # [...] bool
