"""Prompts on the command line: options and prompt files become checked `Prompt`s, one for each object and frame."""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgetam_jax.data.datasets import read_ids
from edgetam_jax.data.prompt_files import read_prompts
from edgetam_jax.errors import PromptError
from edgetam_jax.ops.points import check_inside, check_mask, check_points
from edgetam_jax.prompts import Prompt
from edgetam_jax.types import LARGEST_ID, VOID

_NUMBER = r"\s*(-?\d+(?:\.\d*)?)\s*"


class PromptOption(NamedTuple):
    """The parsed value of one option, [OBJ:]VALUE[,FRAME]."""

    obj_id: int | None  # None if OBJ is left out
    value: Any  # coordinates, or the path of a mask
    frame: int


def add_prompt_options(parser: argparse.ArgumentParser, frames: bool) -> None:
    """Adds --point, --negative, --box and --mask; with `frames`, for videos, a frame number in each and --prompts."""
    group = parser.add_argument_group("prompts, in pixels from the top left; each may be repeated")
    tail = "[,FRAME]" if frames else ""
    repeated = {"action": "append", "default": []}
    point, box = _coordinates_parser("X,Y", 2, frames), _coordinates_parser("X0,Y0,X1,Y1", 4, frames)
    group.add_argument(
        "--point", metavar=f"[OBJ:]X,Y{tail}", type=point, **repeated, help="a point on object OBJ (object 1)"
    )
    group.add_argument(
        "--negative", metavar=f"[OBJ:]X,Y{tail}", type=point, **repeated, help="a point that is not on the object"
    )
    group.add_argument(
        "--box", metavar=f"[OBJ:]X0,Y0,X1,Y1{tail}", type=box, **repeated, help="a box around the object"
    )
    group.add_argument(
        "--mask",
        metavar=f"[OBJ:]FILE{tail}",
        type=_mask_parser(frames),
        **repeated,
        help="an image file with its mask; without OBJ, each value of a palette image is an object",
    )
    if frames:
        group.add_argument(
            "--prompts", type=Path, metavar="FILE.json", help="a file of prompts; see edgetam-jax batch --help"
        )


def _coordinates_parser(form: str, count: int, frames: bool) -> Callable[[str], PromptOption]:
    pattern = re.compile(r"(?:(\d+):)?" + ",".join([_NUMBER] * count) + (r"(?:,(\d+))?" if frames else "()"))

    def parse(text: str) -> PromptOption:
        match = pattern.fullmatch(text)
        if not match:
            example = "210,350" if count == 2 else "100,80,300,240"
            more = f", 2:{example} for object 2" + (f" or 2:{example},12 for its frame 12" if frames else "")
            raise argparse.ArgumentTypeError(f"{text!r} is not {form}; write {example}{more}")
        obj_id, *numbers, frame = match.groups()
        return PromptOption(None if obj_id is None else int(obj_id), [float(n) for n in numbers], int(frame or 0))

    return parse


def _mask_parser(frames: bool) -> Callable[[str], PromptOption]:
    pattern = re.compile(r"(?:(\d+):)?(.+?)" + (r"(?:,(\d+))?" if frames else "()"))

    def parse(text: str) -> PromptOption:
        match = pattern.fullmatch(text)
        if not match:
            raise argparse.ArgumentTypeError("the file's name is missing")
        obj_id, path, frame = match.groups()
        return PromptOption(None if obj_id is None else int(obj_id), Path(path), int(frame or 0))

    return parse


def build_prompts(arguments: argparse.Namespace) -> list[Prompt]:
    """The prompts of the options and of the prompt file, merged into one `Prompt` for each object and frame.

    Args:
        arguments: Parsed by a parser with `add_prompt_options`.

    Returns:
        At least one prompt, in the order of object ids and frames. `check_prompts` checks them against the frames.

    Raises:
        PromptError: There is no prompt, an object id is out of range, or an object has two boxes or masks on a frame.
    """
    fields: dict[tuple[int, int], dict[str, Any]] = {}

    def fields_of(obj_id: int | None, frame: int) -> dict[str, Any]:
        number = 1 if obj_id is None else obj_id
        if not 0 < number <= LARGEST_ID:
            raise PromptError(f"there is no object {number}; objects are numbered from 1 to {LARGEST_ID}.")
        return fields.setdefault((number, frame), {})

    for entry in read_prompts(arguments.prompts) if getattr(arguments, "prompts", None) else []:
        prompt = fields_of(entry["obj_id"], entry.get("frame", 0))
        prompt.update({key: entry[key] for key in ("points", "labels", "box") if key in entry})
    for label, options in ((1, arguments.point), (0, arguments.negative)):
        for option in options:
            prompt = fields_of(option.obj_id, option.frame)
            prompt["points"] = [*prompt.get("points", ()), option.value]
            prompt["labels"] = [*prompt.get("labels", ()), label]
    for option in arguments.box:
        _set_once(fields_of(option.obj_id, option.frame), "box", option.value, option)
    for option in arguments.mask:
        for obj_id, mask in _read_masks(option).items():
            _set_once(fields_of(obj_id, option.frame), "mask", mask, option)
    if not fields:
        raise PromptError("there is no prompt; give a point (--point 210,350), a box (--box) or a mask (--mask).")
    return [Prompt(**prompt, obj_id=obj_id, frame=frame) for (obj_id, frame), prompt in sorted(fields.items())]


def _set_once(prompt: dict[str, Any], name: str, value: Any, option: PromptOption) -> None:
    if name in prompt:
        raise PromptError(f"object {option.obj_id or 1} has a second {name} on frame {option.frame}; give only one.")
    prompt[name] = value


def _read_masks(option: PromptOption) -> dict[int, np.ndarray]:
    """Masks [H, W] by object id."""
    ids = read_ids(option.value)
    if option.obj_id is not None:
        return {option.obj_id: ids > 0}
    masks = {int(i): ids == i for i in np.unique(ids) if i not in (0, VOID)}
    return masks or {1: ids > 0}


def check_prompts(prompts: Sequence[Prompt], size: tuple[int, int], num_frames: int) -> None:
    """Checks prompts against the frames, before any slow work.

    Args:
        prompts: Prompts with object ids.
        size: Height and width of the frames.
        num_frames: Number of frames; 1 for an image.

    Raises:
        PromptError: A prompt lies outside the frames, has a mask of another size, or mixes what cannot be mixed.
    """
    for prompt in prompts:
        name = f"object {prompt.obj_id}" + (f", frame {prompt.frame}" if num_frames > 1 else "")
        if prompt.frame >= num_frames:
            raise PromptError(f"{name}: there is no such frame; the video has {num_frames}, counted from 0.")
        if prompt.mask is not None:
            if check_mask(prompt.mask, name).shape != size:
                height, width = np.shape(prompt.mask)
                raise PromptError(f"{name}: the mask is {width}x{height}, the frame {size[1]}x{size[0]}.")
            if num_frames > 1 and (prompt.points is not None or prompt.box is not None):
                raise PromptError(f"{name}: a mask cannot be combined with points or a box; leave these out.")
        if prompt.mask is None or prompt.points is not None or prompt.box is not None:
            check_inside(check_points(prompt.points, prompt.labels, prompt.box, name)[0], size, name)
