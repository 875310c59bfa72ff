"""What synthetic clips are like."""

import dataclasses

from edgetam_jax.data.synthetic.outlines import PARTS
from edgetam_jax.errors import ConfigError

LEAST_SIDE = 16  # pixels of a frame


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """The size of synthetic clips, and what happens in them."""

    frames: int = 8
    height: int = 256
    width: int = 256
    objects: int = 3
    distractors: int = 1  # things like the objects that nobody asks for
    occluders: int = 1  # things that get in front of an object
    radius: tuple[float, float] = (0.07, 0.2)  # of a disk as large as the object, as a share of the shorter side
    leaving: float = 0.3  # share of objects that leave the frame and come back
    pace: float = 1.0  # how fast all moves
    exposures: int = 3  # pictures averaged into one frame, an odd number: what moves fast is blurred

    def __post_init__(self) -> None:
        least_of = {"frames": 1, "height": LEAST_SIDE, "width": LEAST_SIDE, "objects": 1, "exposures": 1}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {least}.")
        if self.exposures % 2 == 0:
            raise ConfigError(f"exposures is {self.exposures}; expected an odd number, whose middle gives the masks.")
        if min(self.distractors, self.occluders) < 0 or self.things * PARTS > 254:
            raise ConfigError(
                f"{self.objects} objects, {self.distractors} distractors and {self.occluders} occluders; "
                f"expected none below zero, and up to {254 // PARTS} together."
            )
        if not 0 < self.radius[0] <= self.radius[1] <= 1:
            raise ConfigError(f"radius is {self.radius}; expected the smallest and the largest, above 0 and up to 1.")
        if not 0 <= self.leaving <= 1:
            raise ConfigError(f"leaving is {self.leaving}; expected a share, 0 to 1.")
        if not 0 <= self.pace < float("inf"):
            raise ConfigError(f"pace is {self.pace}; expected 0 (nothing moves) or more.")

    @property
    def things(self) -> int:
        return self.objects + self.distractors + self.occluders

    @property
    def side(self) -> int:
        """The frame's shorter side in pixels, which is the unit of the world."""
        return min(self.height, self.width)

    @property
    def room(self) -> tuple[float, float]:
        """Width and height in that unit."""
        return self.width / self.side, self.height / self.side

    @property
    def texture_size(self) -> int:
        """Of an object, in texels; a background's is twice that."""
        return max(32, 1 << (self.side // 2 - 1).bit_length())
