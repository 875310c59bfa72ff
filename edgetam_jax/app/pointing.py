"""What visitors say about an object in a picture: clicks on it and off it, and a box around it."""

from typing import NamedTuple

import numpy as np

from edgetam_jax.media.visualize import draw_prompts
from edgetam_jax.prompts import Prompt
from edgetam_jax.types import Label

Point = tuple[float, float]  # x, y


class Mark(NamedTuple):
    """A click, where `start` is `end`, or a box from corner to corner. Shares, 0 to 1, of the picture's sides."""

    start: Point
    end: Point
    positive: bool = True  # of a click: on the object

    @property
    def is_click(self) -> bool:
        return self.start == self.end


class Said(NamedTuple):
    """All that was said about one object in one picture, in its pixels."""

    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None

    def with_mark(self, mark: Mark, size: tuple[int, int]) -> "Said":
        """A click is one more; a box begins anew. `size` is (height, width)."""
        height, width = size
        (x0, y0), (x1, y1) = ((x * width, y * height) for x, y in (mark.start, mark.end))
        if not mark.is_click:
            return Said(box=(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
        label = Label.POSITIVE if mark.positive else Label.NEGATIVE
        return self._replace(points=(*self.points, (x0, y0)), labels=(*self.labels, int(label)))

    def without_latest(self) -> "Said":
        """Without the latest click; without the box where there is none."""
        return self._replace(points=self.points[:-1], labels=self.labels[:-1]) if self.points else NOTHING

    @property
    def prompt(self) -> Prompt:
        points, labels = (self.points, self.labels) if self.points else (None, None)
        return Prompt(points=points, labels=labels, box=self.box)

    def drawn_on(self, picture: np.ndarray, color: np.ndarray) -> np.ndarray:
        prompt = self.prompt
        return draw_prompts(picture, prompt.points, prompt.labels, prompt.box, color=color)


NOTHING = Said()
MIDDLE = Mark((0.5, 0.5), (0.5, 0.5))
