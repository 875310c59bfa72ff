"""Clicks and drags on a picture, and the prompt of one object that they add up to."""

from typing import NamedTuple

import numpy as np

from edgetam_jax.media.visualize import draw_prompts
from edgetam_jax.prompts import Prompt
from edgetam_jax.types import Label

Point = tuple[float, float]  # x, y


class Gesture(NamedTuple):
    """A click, where `start` equals `end`, or a drag, which draws a box from corner to corner.

    Coordinates are relative to the picture's width and height, from 0 to 1.
    """

    start: Point
    end: Point
    positive: bool = True  # of a click: it is on the object

    @property
    def is_click(self) -> bool:
        return self.start == self.end


class ObjectPrompt(NamedTuple):
    """All points and the box of one object on one picture, in the picture's pixels."""

    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None

    def with_gesture(self, gesture: Gesture, size: tuple[int, int]) -> "ObjectPrompt":
        """A click adds a point; a box replaces everything before it. `size` is (height, width)."""
        height, width = size
        (x0, y0), (x1, y1) = ((x * width, y * height) for x, y in (gesture.start, gesture.end))
        if not gesture.is_click:
            return ObjectPrompt(box=(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
        label = Label.POSITIVE if gesture.positive else Label.NEGATIVE
        return self._replace(points=(*self.points, (x0, y0)), labels=(*self.labels, int(label)))

    def without_last(self) -> "ObjectPrompt":
        """Without the last point; without the box if there are no points."""
        return self._replace(points=self.points[:-1], labels=self.labels[:-1]) if self.points else EMPTY

    def to_prompt(self) -> Prompt:
        points, labels = (self.points, self.labels) if self.points else (None, None)
        return Prompt(points=points, labels=labels, box=self.box)

    def draw_on(self, picture: np.ndarray, color: np.ndarray) -> np.ndarray:
        prompt = self.to_prompt()
        return draw_prompts(picture, prompt.points, prompt.labels, prompt.box, color=color)


EMPTY = ObjectPrompt()
CENTER_CLICK = Gesture((0.5, 0.5), (0.5, 0.5))
