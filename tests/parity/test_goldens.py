"""Numbers published for the released weights, one test an example. You bring the weights and the pictures:

    EDGETAM_CHECKPOINT=edgetam.pt EDGETAM_MEDIA=pictures pytest tests/parity/test_goldens.py

The checkpoint may be any that `load` takes. The folder may hold truck.jpg, groceries.jpg, dog-sam.png, car.png and
bedroom.mp4; seven examples need none of them.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from convert.goldens import Row, goldens, read_media, table
from convert.verify import Examples, checks, title
from edgetam_jax.checkpoints.api import load, save
from edgetam_jax.errors import FrameError
from tests.support.checkpoints import small_model


@pytest.fixture(scope="module")
def examples() -> Examples:
    return open_examples(os.environ)


HINT = "set EDGETAM_CHECKPOINT to the released weights, and EDGETAM_MEDIA to a folder with the pictures"
# Without a checkpoint one test is skipped, rather than one for every example.
CHECKS = (
    checks()
    if os.environ.get("EDGETAM_CHECKPOINT")
    else [pytest.param({}, id="released weights", marks=pytest.mark.skip(reason=HINT))]
)


@pytest.mark.parametrize("check", CHECKS, ids=title)
def test_published_numbers(check: dict[str, Any], examples: Examples) -> None:
    hold(examples.rows(check))


def open_examples(environment: Mapping[str, str]) -> Examples:
    checkpoint, media = environment.get("EDGETAM_CHECKPOINT"), environment.get("EDGETAM_MEDIA")
    if not checkpoint:
        pytest.skip(HINT)
    return Examples(load(checkpoint), read_media([pathlib.Path(media)] if media else []))


def hold(rows: Sequence[Row]) -> None:
    if any(row.passed is None for row in rows):
        pytest.skip(f"{rows[0].got} (pictures go into the folder EDGETAM_MEDIA)")
    if not rows or not all(row.passed for row in rows):
        pytest.fail(table(rows), pytrace=False)


def test_other_weights_fail(tmp_path: pathlib.Path) -> None:
    """What runs above when there is a checkpoint, here on one of random weights."""
    with pytest.raises(pytest.skip.Exception, match="set EDGETAM_CHECKPOINT"):
        open_examples({})
    save(small_model(), tmp_path / "small")
    environment = {"EDGETAM_CHECKPOINT": str(tmp_path / "small")}
    with pytest.raises(FrameError, match="none of the published pictures"):
        open_examples({**environment, "EDGETAM_MEDIA": str(tmp_path)})
    examples = open_examples(environment)
    image, video = goldens()["checks"][0], goldens()["video_checks"][0]
    for check in image, video:
        with pytest.raises(pytest.skip.Exception, match=r"needs .* go into the folder EDGETAM_MEDIA"):
            hold(examples.rows(check))
    gate = next(check for check in checks() if check.get("image") == "gate")
    with pytest.raises(pytest.fail.Exception, match="FAIL"):
        hold(examples.rows(gate))
