"""JSON files of prompts, for the videos of a folder."""

import json
from pathlib import Path
from typing import Any

from edgetam_jax.errors import PromptError
from edgetam_jax.types import LARGEST_ID

KEYS = {"obj_id", "frame", "points", "labels", "box"}


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The entries of a prompt file. Points and boxes are checked when they are used."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PromptError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PromptError(f"{path} must hold a list of prompts, each an object with {sorted(KEYS)}.")
    for index, entry in enumerate(entries):
        if unknown := sorted(set(entry) - KEYS):
            raise PromptError(f"{path}, prompt {index}: unknown keys {unknown}; known are {sorted(KEYS)}.")
        obj_id = entry.get("obj_id")
        if not isinstance(obj_id, int) or not 0 < obj_id <= LARGEST_ID:
            raise PromptError(f"{path}, prompt {index}: obj_id is {obj_id!r}; expected 1 to {LARGEST_ID}.")
    objects_and_frames = [(entry["obj_id"], entry.get("frame", 0)) for entry in entries]
    if twice := sorted({pair for pair in objects_and_frames if objects_and_frames.count(pair) > 1}, key=str):
        raise PromptError(f"{path}: two prompts for one object and frame, {twice}; put all into one.")
    return entries
