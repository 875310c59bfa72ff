"""The configuration of synthetic clips."""

import dataclasses

from edgetam_jax.data.synthetic.outlines import NUM_PARTS
from edgetam_jax.errors import ConfigError

MIN_SIDE = 16  # pixels


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """The size and the content of synthetic clips.

    Attributes:
        frames: Frames of a clip.
        height: Height of the frames in pixels.
        width: Width of the frames in pixels.
        objects: Things with masks.
        distractors: Things like the objects, but without masks.
        occluders: Things that move in front of an object.
        radius: The smallest and the largest radius of a disk with an object's area, as a share of the shorter side.
        leaving: The share of objects that leave the frame; most of them return.
        pace: A factor of all speeds.
        exposures: Images averaged into one frame, for motion blur; an odd number.
        real: The share of clips with real textures and things, where there is a bank of them.
    """

    frames: int = 8
    height: int = 256
    width: int = 256
    objects: int = 3
    distractors: int = 1
    occluders: int = 1
    radius: tuple[float, float] = (0.07, 0.2)
    leaving: float = 0.3
    pace: float = 1.0
    exposures: int = 3
    real: float = 1.0

    def __post_init__(self) -> None:
        minimum = {"frames": 1, "height": MIN_SIDE, "width": MIN_SIDE, "objects": 1, "exposures": 1}
        for name, least in minimum.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {least}.")
        if self.exposures % 2 == 0:
            raise ConfigError(f"exposures is {self.exposures}; expected an odd number, whose middle gives the masks.")
        if min(self.distractors, self.occluders) < 0 or self.things * NUM_PARTS > 254:
            raise ConfigError(
                f"{self.objects} objects, {self.distractors} distractors and {self.occluders} occluders; "
                f"expected none below zero, and up to {254 // NUM_PARTS} together."
            )
        if not 0 < self.radius[0] <= self.radius[1] <= 1:
            raise ConfigError(f"radius is {self.radius}; expected the smallest and the largest, above 0 and up to 1.")
        if not 0 <= self.leaving <= 1:
            raise ConfigError(f"leaving is {self.leaving}; expected a share, 0 to 1.")
        if not 0 <= self.real <= 1:
            raise ConfigError(f"real is {self.real}; expected a share, 0 to 1.")
        if not 0 <= self.pace < float("inf"):
            raise ConfigError(f"pace is {self.pace}; expected 0 (nothing moves) or more.")

    @property
    def things(self) -> int:
        """The number of objects, distractors and occluders."""
        return self.objects + self.distractors + self.occluders

    @property
    def side(self) -> int:
        """The frame's shorter side in pixels, which is the unit of scene coordinates."""
        return min(self.height, self.width)

    @property
    def extent(self) -> tuple[float, float]:
        """The frame's width and height in scene coordinates."""
        return self.width / self.side, self.height / self.side

    @property
    def texture_size(self) -> int:
        """The side of an object's texture in texels; a background's is twice as long."""
        return max(32, 1 << (self.side // 2 - 1).bit_length())
