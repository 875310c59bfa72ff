"""What training learns from: clips of fixed shape, of which a still image is one with a single frame."""

from typing import NamedTuple

from jaxtyping import Array, Bool, UInt8


class Example(NamedTuple):
    """Frames and the truth about O objects in them. A batch has one more axis in front, of every field."""

    frames: UInt8[Array, "*b t s s 3"]  # at the model's input size
    masks: Bool[Array, "*b t o s s"]
    valid: Bool[Array, "*b o"]  # the rows that hold an object; the others fill the fixed shape
