"""What users point at: options and files of prompts become checked `Prompt`s, one for each object and frame."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgetam_jax.data.datasets import read_ids
from edgetam_jax.data.prompt_files import read_prompts
from edgetam_jax.errors import PromptError
from edgetam_jax.prompts import Prompt, check_inside, check_mask, check_points
from edgetam_jax.types import LARGEST_ID, VOID

_NUMBER = r"\s*(-?\d+(?:\.\d*)?)\s*"


class Place(NamedTuple):
    """An option's value."""

    obj_id: int | None  # as written: [OBJ:]...
    what: Any  # coordinates, or a file
    frame: int


def add_prompt_options(parser: argparse.ArgumentParser, frames: bool) -> None:
    """`frames`: whether there are several, which prompts can name."""
    group = parser.add_argument_group("prompts, in pixels from the top left; each can be given many times")
    tail = "[,FRAME]" if frames else ""
    several = {"action": "append", "default": []}
    point, box = _reader("X,Y", 2, frames), _reader("X0,Y0,X1,Y1", 4, frames)
    group.add_argument(
        "--point", metavar=f"[OBJ:]X,Y{tail}", type=point, **several, help="a click on object OBJ (object 1)"
    )
    group.add_argument(
        "--negative",
        metavar=f"[OBJ:]X,Y{tail}",
        type=point,
        **several,
        help="a click beside it: this is not the object",
    )
    group.add_argument("--box", metavar=f"[OBJ:]X0,Y0,X1,Y1{tail}", type=box, **several, help="a box around it")
    group.add_argument(
        "--mask",
        metavar=f"[OBJ:]FILE{tail}",
        type=_mask_reader(frames),
        **several,
        help="its mask, an image file; without OBJ each value of a palette image is an object",
    )
    if frames:
        group.add_argument(
            "--prompts", type=Path, metavar="FILE.json", help="a list of prompts, as edgetam-jax batch --help says"
        )


def _reader(form: str, count: int, frames: bool) -> Any:
    pattern = re.compile(r"(?:(\d+):)?" + ",".join([_NUMBER] * count) + (r"(?:,(\d+))?" if frames else "()"))

    def read(text: str) -> Place:
        found = pattern.fullmatch(text)
        if not found:
            example = {2: "210,350", 4: "100,80,300,240"}[count]
            more = f", 2:{example} for object 2" + (f" or 2:{example},12 for its frame 12" if frames else "")
            raise argparse.ArgumentTypeError(f"{text!r} is not {form}; write {example}{more}")
        obj_id, *numbers, frame = found.groups()
        return Place(None if obj_id is None else int(obj_id), [float(n) for n in numbers], int(frame or 0))

    return read


def _mask_reader(frames: bool) -> Any:
    pattern = re.compile(r"(?:(\d+):)?(.+?)" + (r"(?:,(\d+))?" if frames else "()"))

    def read(text: str) -> Place:
        found = pattern.fullmatch(text)
        if not found:
            raise argparse.ArgumentTypeError("the file's name is missing")
        obj_id, path, frame = found.groups()
        return Place(None if obj_id is None else int(obj_id), Path(path), int(frame or 0))

    return read


def gather(arguments: argparse.Namespace) -> list[Prompt]:
    """All prompts of the line and of the file that it names; those about one object on one frame are one."""
    said: dict[tuple[int, int], dict[str, Any]] = {}

    def about(obj_id: int | None, frame: int) -> dict[str, Any]:
        number = 1 if obj_id is None else obj_id
        if not 0 < number <= LARGEST_ID:
            raise PromptError(f"there is no object {number}; objects are numbered from 1 to {LARGEST_ID}.")
        return said.setdefault((number, frame), {})

    for entry in read_prompts(arguments.prompts) if getattr(arguments, "prompts", None) else []:
        one = about(entry["obj_id"], entry.get("frame", 0))
        one.update({key: entry[key] for key in ("points", "labels", "box") if key in entry})
    for label, places in ((1, arguments.point), (0, arguments.negative)):
        for place in places:
            one = about(place.obj_id, place.frame)
            one["points"] = [*one.get("points", ()), place.what]
            one["labels"] = [*one.get("labels", ()), label]
    for place in arguments.box:
        _set(about(place.obj_id, place.frame), "box", place.what, place)
    for place in arguments.mask:
        for obj_id, mask in _read_masks(place).items():
            _set(about(obj_id, place.frame), "mask", mask, place)
    if not said:
        raise PromptError("nothing is pointed at; give a click (--point 210,350), a box (--box) or a mask (--mask).")
    return [Prompt(**one, obj_id=obj_id, frame=frame) for (obj_id, frame), one in sorted(said.items())]


def _set(one: dict[str, Any], name: str, value: Any, place: Place) -> None:
    if name in one:
        raise PromptError(f"object {place.obj_id or 1} is given a second {name} on frame {place.frame}; keep one.")
    one[name] = value


def _read_masks(place: Place) -> dict[int, np.ndarray]:
    ids = read_ids(place.what)
    if place.obj_id is not None:
        return {place.obj_id: ids > 0}
    found = {int(i): ids == i for i in np.unique(ids) if i not in (0, VOID)}
    return found or {1: ids > 0}


def check(prompts: Sequence[Prompt], size: tuple[int, int], num_frames: int) -> None:
    """That they fit to frames of `size` (height, width), before anything slow begins."""
    for prompt in prompts:
        name = f"object {prompt.obj_id}" + (f", frame {prompt.frame}" if num_frames > 1 else "")
        if prompt.frame >= num_frames:
            raise PromptError(f"{name}: there is no such frame; the video has {num_frames}, counted from 0.")
        if prompt.mask is not None:
            if check_mask(prompt.mask, name).shape != size:
                height, width = np.shape(prompt.mask)
                raise PromptError(f"{name}: the mask is {width}x{height}, the picture {size[1]}x{size[0]}.")
            if num_frames > 1 and (prompt.points is not None or prompt.box is not None):
                raise PromptError(f"{name}: a mask says all; leave its clicks and its box out.")
        if prompt.mask is None or prompt.points is not None or prompt.box is not None:
            check_inside(check_points(prompt.points, prompt.labels, prompt.box, name)[0], size, name)
