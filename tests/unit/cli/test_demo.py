"""`edgetam-jax demo` on a hand-made clip: the files that it writes and the scores that it prints."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from edgetam_jax import VideoPredictor, load, open_video
from edgetam_jax.cli import demo
from edgetam_jax.cli import main as cli
from edgetam_jax.data.synthetic import SyntheticClip
from edgetam_jax.evaluation.measures import boundary_accuracy, region_similarity
from edgetam_jax.ops.boxes import boxes_around
from tests.support.scene import FRAMES
from tests.unit.cli.conftest import SIZE


@pytest.fixture
def clip(frames: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> SyntheticClip:
    """Two disks, of which the first is hidden for two frames."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    masks = np.zeros((FRAMES, 2, *SIZE), bool)
    for t in range(FRAMES):
        masks[t, 0] = ((x - 12 - 2 * t) ** 2 + (y - 14) ** 2 < 49) & (t not in (3, 4))
        masks[t, 1] = (x - 31) ** 2 + (y - 20) ** 2 < 81
    arrays = map(
        jnp.asarray, (frames, masks, masks.any((2, 3)), boxes_around(jnp.asarray(masks)), np.zeros((FRAMES, 2)))
    )
    made = SyntheticClip(*arrays)
    monkeypatch.setattr(demo, "held_out_clip", lambda *_: made)
    return made


def test_demo(network: Path, clip: SyntheticClip, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["demo", "--model", str(network), "--out", "out"]) == 0
    printed = capsys.readouterr()
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(demo.FILES)
    with open_video("out/demo.mp4") as video:
        assert len(video) == FRAMES and video.fps == demo.FPS
    with Image.open("out/demo.png") as sheet:
        assert sheet.width > 4 * SIZE[1] - 1

    predictor = VideoPredictor(load(network), non_overlap_masks=True)
    state = predictor.init_state(np.asarray(clip.frames))
    predictor.add_new_points_or_box(state, 0, 1, [[12, 14]], [1])
    predictor.add_new_points_or_box(state, 0, 2, box=[23, 12, 39, 28])
    masks = np.stack([logits[:, 0] > 0 for *_, logits in predictor.propagate_in_video(state)])
    truth = np.asarray(clip.masks)
    for obj_id, kind in ((1, "one click"), (2, "one box")):
        pair = masks[1:-1, obj_id - 1], truth[1:-1, obj_id - 1]
        j, f = region_similarity(*pair).mean(), boundary_accuracy(*pair).mean()
        assert f"{obj_id}, {kind}".ljust(20) + f" {j:6.3f} {f:6.3f} {(j + f) / 2:6.3f}" in printed.out
    assert "ms a frame" in printed.out and "edgetam-jax track VIDEO" in printed.out
    assert cli.main(["demo", "--model", str(network), "--out", "out"]) == 2
    assert "demo.mp4 exists" in capsys.readouterr().err
    Path("file").touch()
    assert cli.main(["demo", "--model", str(network), "--out", "file"]) == 2
    assert "file is a file" in capsys.readouterr().err
