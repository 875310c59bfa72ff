"""Published numbers for the released weights, one test for each example. You provide the weights and the images:

    EDGETAM_CHECKPOINT=edgetam.pt EDGETAM_MEDIA=pictures pytest tests/parity/test_goldens.py

The checkpoint may be any that `load` takes. The folder may hold truck.jpg, groceries.jpg, dog-sam.png, car.png and
bedroom.mp4; seven examples need none of them.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from convert.goldens import CheckResult, format_table, load_goldens, read_media
from convert.verify import CheckRunner, check_title, checks
from edgetam_jax.checkpoints.api import load, save
from edgetam_jax.errors import FrameError
from tests.support.checkpoints import small_model


@pytest.fixture(scope="module")
def runner() -> CheckRunner:
    return make_runner(os.environ)


HINT = "set EDGETAM_CHECKPOINT to the released weights, and EDGETAM_MEDIA to a folder with the pictures"
# Without a checkpoint one test is skipped, rather than one for every example.
CHECKS = (
    checks()
    if os.environ.get("EDGETAM_CHECKPOINT")
    else [pytest.param({}, id="released weights", marks=pytest.mark.skip(reason=HINT))]
)


@pytest.mark.parametrize("check", CHECKS, ids=check_title)
def test_published_numbers(check: dict[str, Any], runner: CheckRunner) -> None:
    check_results(runner.results(check))


def make_runner(environment: Mapping[str, str]) -> CheckRunner:
    checkpoint, media = environment.get("EDGETAM_CHECKPOINT"), environment.get("EDGETAM_MEDIA")
    if not checkpoint:
        pytest.skip(HINT)
    return CheckRunner(load(checkpoint), read_media([pathlib.Path(media)] if media else []))


def check_results(results: Sequence[CheckResult]) -> None:
    if any(result.passed is None for result in results):
        pytest.skip(f"{results[0].got} (pictures go into the folder EDGETAM_MEDIA)")
    if not results or not all(result.passed for result in results):
        pytest.fail(format_table(results), pytrace=False)


def test_other_weights_fail(tmp_path: pathlib.Path) -> None:
    """The test above needs a checkpoint; this one runs it on random weights."""
    with pytest.raises(pytest.skip.Exception, match="set EDGETAM_CHECKPOINT"):
        make_runner({})
    save(small_model(), tmp_path / "small")
    environment = {"EDGETAM_CHECKPOINT": str(tmp_path / "small")}
    with pytest.raises(FrameError, match="none of the published pictures"):
        make_runner({**environment, "EDGETAM_MEDIA": str(tmp_path)})
    runner = make_runner(environment)
    image, video = load_goldens()["checks"][0], load_goldens()["video_checks"][0]
    for check in image, video:
        with pytest.raises(pytest.skip.Exception, match=r"needs .* go into the folder EDGETAM_MEDIA"):
            check_results(runner.results(check))
    gate = next(check for check in checks() if check.get("image") == "gate")
    with pytest.raises(pytest.fail.Exception, match="FAIL"):
        check_results(runner.results(gate))
