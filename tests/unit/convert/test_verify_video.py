"""`--verify` on the published examples of tracking: the Hugging Face port gives the same logits."""

import pathlib
from typing import Any

import jax
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as tf

from convert import verify, verify_video
from convert.goldens import FRAMES, CheckResult, load_goldens
from convert.hf_prompts import ZERO_TOKEN
from edgetam_jax.checkpoints.writers import write_hf
from edgetam_jax.model import Model
from edgetam_jax.ops.pixels import preprocess
from edgetam_jax.types import Label
from tests.parity.pairs import make_pair, with_score_bias
from tests.support.checkpoints import SMALL, small_model
from tests.support.tolerances import TRACKED_LOGITS_ATOL, assert_close

VIDEO = "bedroom.mp4"
HEIGHT, WIDTH = 108, 192  # a fifth of the clip's
CHECKS = {check["name"]: check for check in load_goldens()["video_checks"]}


def scale_to_fifth(prompt: dict[str, Any]) -> dict[str, Any]:
    return prompt | {key: (np.array(prompt[key]) / 5).tolist() for key in ("points", "box") if key in prompt}


SMALL_CHECKS = {
    name: check | {"objects": [scale_to_fifth(prompt) for prompt in check["objects"]]} for name, check in CHECKS.items()
}


@pytest.fixture(scope="module")
def model(small_original: Any) -> Model:
    """Random weights, biased so that objects are found: also by the decoder that takes a mask as a prompt."""
    return with_score_bias(make_pair(small_original, SMALL).model, lambda bias: bias + 8.0)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    random = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    still = np.asarray(Image.fromarray(random).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return np.stack([np.roll(still, 5 * t, 1) for t in range(FRAMES)])


class Port:
    """The port's own sessions, with the inputs that its processor would make."""

    def __init__(self, model: Model, frames: np.ndarray, folder: pathlib.Path) -> None:
        from transformers import EdgeTamVideoModel

        write_hf(model.params, SMALL, folder, False, False)
        self.network = EdgeTamVideoModel.from_pretrained(folder).eval()
        pixels = np.array(jax.jit(preprocess, static_argnums=(1, 2))(frames, SMALL.image_size, "hf"))
        self.pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def track(self, check: dict[str, Any]) -> np.ndarray:
        from transformers import EdgeTamVideoInferenceSession

        session = EdgeTamVideoInferenceSession(self.pixels, HEIGHT, WIDTH, dtype=torch.float32)
        scale = SMALL.image_size / torch.tensor([WIDTH, HEIGHT])
        for prompt in check["objects"]:
            row = session.obj_id_to_idx(prompt["id"])
            if "mask_from" in prompt:
                before = torch.from_numpy(self.track(SMALL_CHECKS[prompt["mask_from"]])[:1])
                size = (SMALL.image_size,) * 2
                large = tf.interpolate(before, size, mode="bilinear", align_corners=False, antialias=True)
                session.add_mask_inputs(row, 0, large >= 0.5)
                continue
            points, labels = prompt.get("points", []), prompt.get("labels", [])
            if "box" in prompt:
                points, labels = [*np.reshape(prompt["box"], (2, 2)), *points], [2, 3, *labels]
            coords = torch.from_numpy(np.array(points, np.float32)) * scale
            clicks = {"point_coords": coords[None, None], "point_labels": torch.tensor(labels)[None, None].int()}
            session.add_point_inputs(row, 0, clicks)
        session.obj_with_new_inputs = session.obj_ids.copy()
        outputs = self.network.propagate_in_video_iterator(session, start_frame_idx=0)
        size = (HEIGHT, WIDTH)
        masks = [
            tf.interpolate(output.pred_masks, size, mode="bilinear", align_corners=False)[:, 0] for output in outputs
        ]
        return torch.stack(masks).numpy()


@pytest.fixture(scope="module")
def port_logits(model: Model, frames: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    port = Port(model, frames, tmp_path_factory.mktemp("port") / "hf")
    return {name: port.track(check) for name, check in SMALL_CHECKS.items()}


def test_every_check_can_be_run() -> None:
    assert len(CHECKS) == len(load_goldens()["video_checks"]) == 6
    width, height = load_goldens()["videos"][VIDEO]["size"]
    for check in CHECKS.values():
        assert check["video"] in load_goldens()["videos"]
        assert "logit" in load_goldens()["tolerances"][check["preprocess"]]
        assert len(check["logits"]) == FRAMES
        for prompt in check["objects"]:
            assert prompt.keys() <= {"id", "points", "labels", "box", "mask_from"}
            assert prompt.get("mask_from", "two points") in CHECKS
            points = [*prompt.get("points", []), *np.reshape(prompt.get("box", []), (-1, 2))]
            assert all(0 <= x < width and 0 <= y < height for x, y in points)
            assert set(prompt.get("labels", [])) <= {Label.NEGATIVE, Label.POSITIVE, ZERO_TOKEN}
        for frame in check["logits"]:
            assert len(frame) == len(check["objects"])


@pytest.mark.parametrize("name", CHECKS)
def test_tracks_as_the_port(name: str, model: Model, frames: np.ndarray, port_logits: dict[str, np.ndarray]) -> None:
    check = SMALL_CHECKS[name]
    prompt_logits = next((port_logits[o["mask_from"]][0, 0] for o in check["objects"] if "mask_from" in o), None)
    got = verify_video.track_check(model, frames, check, prompt_logits)
    assert got.shape == (FRAMES, len(check["objects"]), HEIGHT, WIDTH)
    for row in range(got.shape[1]):
        assert_close(name, got[:, row], port_logits[name][:, row], atol=TRACKED_LOGITS_ATOL, both_signs=True)


def test_padding_changes_the_logits(model: Model, frames: np.ndarray, port_logits: dict[str, np.ndarray]) -> None:
    """Without a difference the test above could not show that padding is handled as in the port."""
    alone = SMALL_CHECKS["two objects"]["objects"][1]
    alone = {"id": 3, "points": alone["points"][:1], "labels": alone["labels"][:1]}
    got = verify_video.track_check(model, frames, SMALL_CHECKS["two objects"] | {"objects": [alone]})
    assert np.abs(got[:, 0] - port_logits["two objects"][:, 1]).max() > 0.1


def test_a_whole_run(
    model: Model, frames: np.ndarray, port_logits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks made from the port's logits pass; the same checks of other weights run to the end and fail."""
    filled = [check | {"logits": port_logits[name][..., :3, :3].tolist()} for name, check in SMALL_CHECKS.items()]
    monkeypatch.setitem(load_goldens(), "video_checks", filled)
    monkeypatch.setitem(load_goldens(), "checks", [])
    rows = list(verify.verify(model, {VIDEO: frames}))
    assert rows[0].check == f"{VIDEO}, one point: object 1, frame 0: logits of the corner"
    assert [row.passed for row in rows] == [True] * 7 * FRAMES
    others = list(verify.verify(small_model(), {VIDEO: frames}))
    assert [row.check for row in others] == [row.check for row in rows]
    assert sum(row.passed is False for row in others) > len(rows) / 2


def test_what_cannot_be_run_is_listed(frames: np.ndarray) -> None:
    check = load_goldens()["video_checks"][0]

    def row(model: Model, media: dict[str, np.ndarray]) -> CheckResult:
        return verify.CheckRunner(model, media).results(check)[0]

    expected = f"{VIDEO}, one point", "-28.3880 -28.3880 -27.9277"
    assert row(small_model(), {}) == (*expected, f"needs {VIDEO}", None)
    image_only = small_model(image_only=True)
    assert row(image_only, {VIDEO: frames}) == (*expected, "needs a checkpoint for videos", None)
