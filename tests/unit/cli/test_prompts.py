"""Prompts as they are written on the command line."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetam_jax.cli import prompts
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.media.palette import mask_to_palette
from edgetam_jax.prompts import Prompt


def build(*line: str, frames: bool = True) -> list[Prompt]:
    parser = argparse.ArgumentParser()
    prompts.add_prompt_options(parser, frames)
    return prompts.build_prompts(parser.parse_args(line))


def fields(*line: str, frames: bool = True) -> list[tuple[Any, ...]]:
    return [(p.obj_id, p.frame, p.points, p.labels, p.box) for p in build(*line, frames=frames)]


def test_clicks_and_boxes() -> None:
    assert fields("--point", "210,350") == [(1, 0, [[210, 350]], [1], None)]
    assert fields("--point", "2:10.5,35,7") == [(2, 7, [[10.5, 35]], [1], None)]
    assert fields("--box", "3:1,2,30,40", "--negative", "3:5,6", "--point", "3:7,8") == [
        (3, 0, [[7, 8], [5, 6]], [1, 0], [1, 2, 30, 40])
    ]
    assert fields("--point", "2:1,2", "--point", "1,2,5", "--point", "1,2") == [
        (1, 0, [[1, 2]], [1], None),
        (1, 5, [[1, 2]], [1], None),
        (2, 0, [[1, 2]], [1], None),
    ]


@pytest.mark.parametrize(
    "line",
    [["--point", "210"], ["--point", "a,b"], ["--box", "1,2,3"], ["--point", "x:1,2"], ["--mask", ""]],
)
def test_malformed_options(line: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as error:
        build(*line)
    assert error.value.code == 2
    assert (
        "write 210,350" in (message := capsys.readouterr().err)
        or "write 100,80" in message
        or "name is missing" in message
    )


def test_an_image_has_no_frames() -> None:
    with pytest.raises(SystemExit):
        build("--point", "1,2,3", frames=False)
    assert fields("--point", "1,2", frames=False) == [(1, 0, [[1, 2]], [1], None)]


def test_a_file_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(
        json.dumps([{"obj_id": 2, "frame": 3, "box": [1, 2, 3, 4]}, {"obj_id": 1, "points": [[5, 6]], "labels": [1]}])
    )
    assert fields("--prompts", str(path), "--negative", "7,8") == [
        (1, 0, [[5, 6], [7, 8]], [1, 0], None),
        (2, 3, None, None, [1, 2, 3, 4]),
    ]
    path.write_text("{")
    with pytest.raises(PromptError, match="cannot be read as JSON"):
        build("--prompts", str(path))


def test_masks(tmp_path: Path) -> None:
    """Each value of a palette image is an object, unless one is named."""
    masks = np.zeros((2, 6, 8), bool)
    masks[0, :2], masks[1, 3:] = True, True
    mask_to_palette(masks, [4, 7]).save(tmp_path / "ids.png")
    built = build("--mask", f"{tmp_path}/ids.png,5")
    assert [(p.obj_id, p.frame) for p in built] == [(4, 5), (7, 5)]
    for prompt, mask in zip(built, masks, strict=True):
        np.testing.assert_array_equal(prompt.mask, mask)
    (one,) = build("--mask", f"3:{tmp_path}/ids.png")
    np.testing.assert_array_equal(one.mask, masks.any(0))
    Image.fromarray(masks[0].astype(np.uint8) * 255).save(tmp_path / "white.png")
    (one,) = build("--mask", f"{tmp_path}/white.png")
    assert one.obj_id == 1
    np.testing.assert_array_equal(one.mask, masks[0])


def test_invalid_prompts(tmp_path: Path) -> None:
    for line, message in (
        ([], "there is no prompt"),
        (["--point", "0:1,2"], "objects are numbered from 1 to 255"),
        (["--point", "256:1,2"], "objects are numbered from 1 to 255"),
        (["--box", "1,2,3,4", "--box", "1,2,3,5"], "a second box"),
    ):
        with pytest.raises(PromptError, match=message):
            build(*line)
    with pytest.raises(FrameError, match="no such file"):
        build("--mask", str(tmp_path / "none.png"))


def test_check_prompts() -> None:
    mask = np.ones((20, 30), bool)
    for prompt, message in (
        (Prompt(points=[[31, 5]], labels=[1], obj_id=1), "object 1, frame 0: .*outside the frame of 30x20"),
        (Prompt(box=[1, 2, 3, 21], obj_id=1), "outside"),
        (Prompt(box=[5, 2, 3, 11], obj_id=1), "expected x0, y0, x1, y1"),
        (Prompt(points=[[1, 1]], labels=[1], frame=8, obj_id=1), "the video has 8"),
        (Prompt(mask=mask[:, 1:], obj_id=1), "the mask is 29x20, the frame 30x20"),
        (Prompt(mask=~mask, obj_id=1), "is empty"),
        (Prompt(mask=mask, box=[1, 2, 3, 4], obj_id=1), "a mask cannot be combined"),
    ):
        with pytest.raises(PromptError, match=message):
            prompts.check_prompts([prompt], (20, 30), 8)
    prompts.check_prompts([Prompt(mask=mask, points=[[30, 20]], labels=[0], obj_id=1)], (20, 30), 1)
