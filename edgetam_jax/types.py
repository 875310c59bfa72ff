"""Named types that cross module borders, and the legend of the shapes in annotations.

A leading `*b` or `...` stands for any batch axes (frames, objects, none).

    T frames            O objects            P points of a prompt
    S      image_size, the side of the model's input
    H, W   cells of the image embedding (image_size / 16)       h, w   pixels of a mask (image_size / 4)
    C      hidden_dim                                           D      memory_dim
    F      memory frames                                        L      tokens of a memory frame
    N      object pointers                                      HW     the cells as one axis, row by row

General functions have letters of their own: y, x for the rows and columns of any map; c for its channels; i, o for the
input and output channels of a layer; k for the size of its filter; q, k for the queries and keys of attention.
`ops` works on images and masks of any size, with h and w for their height and width.
"""

import enum
from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

LARGEST_ID = 255  # the largest object id that a palette image can hold
VOID = 255  # in an annotation image: pixels that count for no object and not for the background
ALL_OBJECTS = -1  # in place of an object id: a file that annotates all objects of a frame
MASK_LOGIT = 10.0  # a mask that the user provides has logits of +-10
NO_OBJECT = -1024.0  # the logits of an absent object's mask
MASK_PROMPT_CLAMP = 32.0  # low-resolution logits that are fed back as a mask prompt are clipped to +-32


class Label(enum.IntEnum):
    """The kind of a point. A box is a BOX_START and a BOX_END, its top left and bottom right corners."""

    ABSENT = -2  # padding to a fixed shape; has no token
    NOT_A_POINT = -1  # padding with a token of its own, which the network expects at the end of the points
    NEGATIVE = 0
    POSITIVE = 1
    BOX_START = 2
    BOX_END = 3


class ImageFeatures(NamedTuple):
    """The features of an image, which the decoder and the memory use for all objects."""

    embedding: Float[Array, "*b H W C"]
    stride4: Float[Array, "*b 4*H 4*W C//8"]
    stride8: Float[Array, "*b 2*H 2*W C//4"]


class PromptTokens(NamedTuple):
    tokens: Float[Array, "*b P C"]
    valid: Bool[Array, "*b P"]


class MaskPrediction(NamedTuple):
    """The decoder's four masks: the first for unambiguous prompts, the others as alternatives."""

    logits: Float[Array, "*b 4 h w"]
    ious: Float[Array, "*b 4"]  # the estimated IoU of each mask, in 0 to 1
    tokens: Float[Array, "*b 4 C"]  # the decoder's output token of each mask
    score: Float[Array, "*b"]  # logit of the object's presence in the image


class ChosenMask(NamedTuple):
    logits: Float[Array, "*b h w"]
    iou: Float[Array, "*b"]
    token: Float[Array, "*b C"]
    score: Float[Array, "*b"]


class ObjectPrediction(NamedTuple):
    """The network's prediction for one object on one frame."""

    logits: Float[Array, "*b h w"]  # -1024 where the object is absent
    iou: Float[Array, "*b"]
    score: Float[Array, "*b"]  # logit of the object's presence
    pointer: Float[Array, "*b C"]


class ObjectMask(NamedTuple):
    """The mask of one object on one frame, and the network's estimates about it."""

    logits: Array  # [..., h, w]; -1024 where the object is absent
    iou: Array  # [...] estimate of the mask's quality, in 0..1
    score: Array  # [...] logit of the object's presence


class Memory(NamedTuple):
    """The memory of an object. Slots that are not valid may hold anything; their contents have no effect."""

    frames: Float[Array, "*b F L D"]
    rows: Int[Array, "*b F"]  # each frame's row of the temporal embedding
    frames_valid: Bool[Array, "*b F"]
    pointers: Float[Array, "*b N C"]
    pointers_valid: Bool[Array, "*b N"]


class PromptInputs(NamedTuple):
    """The prompts for one object on one image, padded to a fixed shape with points of `Label.ABSENT`.

    Attributes:
        points: [..., P, 2] points (x, y) in pixels of the model's input.
        labels: [..., P] int32, what each point means, see `Label`.
        mask: [..., h, w] logits of a mask prompt.
        has_mask: [...] bool, whether the mask is used.
    """

    points: Float[Array, "*b P 2"]
    labels: Int[Array, "*b P"]
    mask: Float[Array, "*b h w"]
    has_mask: Bool[Array, "*b"]
