"""Sources of frames: image files and images in memory, and iterators. Those of video files are in `video_reader`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import image_size, read_image
from edgetam_jax.media.video_reader import check_size
from edgetam_jax.ops.pixels import as_image, is_pil


class FrameReader(Protocol):
    """Decodes frames by index. Used by one thread at a time."""

    def read(self, index: int) -> np.ndarray:
        """Frame `index` as [H, W, 3] uint8."""
        ...

    def close(self) -> None:
        """Closes files."""
        ...


class FrameSource(Protocol):
    """Where frames come from.

    Attributes:
        size: Height and width of all frames.
        fps: Frame rate; None for what has none.
        seconds: The time of each frame, where the first is at 0; None if there are no time stamps.
        length: Number of frames; None for an iterator that has not ended yet.
        prefetch: Decoding takes so long that the next frames are worth decoding in a thread.
    """

    size: tuple[int, int]
    fps: float | None
    seconds: list[float] | None
    length: int | None
    prefetch: bool

    def reader(self) -> FrameReader:
        """A reader with a position of its own."""
        ...


def describe_frame(index: int, item: Any) -> str:
    """How errors name a frame: by its index, and its path if it has one."""
    return f"frame {index} ({item})" if isinstance(item, str | Path) else f"frame {index}"


class ImageSource:
    """Frames from a sequence of paths, PIL images or arrays, which are loaded one by one. It is its own reader.

    Args:
        items: The images, all of one size.
        prefetch: Whether they are worth loading in advance, as files are.

    Raises:
        FrameError: There are no images, an image cannot be read, or they differ in size.
    """

    fps: float | None = None
    seconds: list[float] | None = None
    length: int | None
    prefetch: bool
    size: tuple[int, int]

    def __init__(self, items: Sequence[Any] | Any, prefetch: bool = False):
        if len(items) == 0:
            raise FrameError("the list of frames is empty; expected at least one.")
        self._items, self.length, self.prefetch = items, len(items), prefetch
        # Only headers are read here, so that a frame of another size is found before work on the others begins.
        self.size = self._size(0)
        for index in range(1, len(items)):
            check_size(describe_frame(index, items[index]), self._size(index), self.size)

    def reader(self) -> "ImageSource":
        return self

    def read(self, index: int) -> np.ndarray:
        frame = read_image(self._items[index])
        check_size(describe_frame(index, self._items[index]), frame.shape[:2], self.size)
        return frame

    def close(self) -> None:
        pass

    def _size(self, index: int) -> tuple[int, int]:
        item = self._items[index]
        if isinstance(item, str | Path):
            return image_size(item)
        if is_pil(item):
            return item.height, item.width
        height, width = as_image(item).shape[:2]
        return height, width


class NoMoreFramesError(Exception):
    """An iterator has ended."""


class IteratorSource:
    """Frames of an iterator, which is read forward only; the latest frame can be read again. It is its own reader."""

    fps: float | None = None
    seconds: list[float] | None = None
    length: int | None
    prefetch: bool = False
    size: tuple[int, int]

    def __init__(self, iterator: Iterator[Any]):
        self._iterator, self._index, self.length = iterator, -1, None
        try:
            self._advance()
        except NoMoreFramesError:
            raise FrameError("the iterator gave no frame; expected at least one.") from None
        height, width = self._latest.shape[:2]
        self.size = height, width

    def reader(self) -> "IteratorSource":
        return self

    def read(self, index: int) -> np.ndarray:
        if index < self._index:
            raise FrameError(
                f"frame {index} of the iterator is gone, it stands at {self._index}; "
                "give a list, an array, a folder or a file to go back."
            )
        while self._index < index:
            self._advance()
        return self._latest

    def close(self) -> None:
        pass

    def _advance(self) -> None:
        try:
            item = next(self._iterator)
        except StopIteration:
            self.length = self._index + 1
            raise NoMoreFramesError from None
        frame = read_image(item)
        if self._index >= 0:
            check_size(describe_frame(self._index + 1, item), frame.shape[:2], self.size)
        self._latest, self._index = frame, self._index + 1
