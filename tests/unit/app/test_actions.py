"""A visit without a browser, and what visitors get wrong."""

import contextlib
import shutil
import threading
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_jax.app import actions, clips, images
from edgetam_jax.app import sessions as visitors
from edgetam_jax.app.app_state import AppState, write_clip
from edgetam_jax.app.pointing import NOTHING, Mark, Said
from edgetam_jax.app.sessions import AppSession
from edgetam_jax.errors import EdgeTAMError, FrameError, PromptError
from edgetam_jax.media.video import open_video
from edgetam_jax.ops.rle import rle_encode
from tests.support import scene
from tests.support.visits import KEY, PATIENCE


def click(x: float, y: float, positive: bool = True) -> Mark:
    """At a place in the scene's pixels."""
    place = x / scene.WIDTH, y / scene.HEIGHT
    return Mark(place, place, positive)


IN, OFF = click(12, 14), click(40, 3, positive=False)
BOX = Mark((40 / scene.WIDTH, 28 / scene.HEIGHT), (22 / scene.WIDTH, 12 / scene.HEIGHT))


def quiet(done: int, total: int) -> None:
    pass


def work_of(studio: AppState, key: str = KEY) -> clips.ClipWork:
    return studio.visitors.find(key).the_clip()


def masks_of(studio: AppState, frame: int, key: str = KEY) -> dict[int, np.ndarray]:
    work = work_of(studio, key)
    _, obj_ids, logits = work.predictor.get_masks(work.session, frame)
    return {obj_id: mask for obj_id, mask in zip(obj_ids, logits[:, 0] > 0, strict=True) if mask.any()}


def values_of(view: actions.ImageView) -> np.ndarray:
    assert view.masks is not None
    return np.asarray(Image.open(view.masks))


def files(visitor: AppSession) -> list[str]:
    return sorted(path.name for path in visitor.folder.rglob("*") if path.is_file())


def test_a_visit(studio: AppState, compilations: list[str]) -> None:
    """Click, box, track, correct, track again, download: nothing large is compiled meanwhile."""
    opened = actions.open_clip(studio, KEY, None)
    assert opened.last == scene.FRAMES - 1 and opened.picture.shape == (scene.HEIGHT, scene.WIDTH, 3)
    view = actions.mark_clip(studio, KEY, 2, 1, IN)
    assert "Object 1 on frame 2" in view.note
    assert not np.array_equal(view.picture, opened.picture)
    actions.mark_clip(studio, KEY, 2, 2, BOX)
    said = clips.said_about(work_of(studio), 2, 2)
    assert said.box == pytest.approx((22, 12, 40, 28)) and said.points == ()
    seen: list[tuple[int, int]] = []
    tracked = actions.track(studio, KEY, 0, lambda done, total: seen.append((done, total)))
    assert sorted(set(seen)) == [(done, scene.FRAMES) for done in range(1, scene.FRAMES + 1)]
    before = [masks_of(studio, frame) for frame in range(scene.FRAMES)]
    assert all(1 in found for found in before) and sum(2 in found for found in before) > 3

    for mark in (OFF, click(20, 14), click(22, 16), click(18, 12)):
        actions.mark_clip(studio, KEY, 5, 1, mark)
    assert not compilations
    corrected = masks_of(studio, 5)[1]
    assert not np.array_equal(corrected, before[5][1])
    again = actions.track(studio, KEY, 0, quiet)
    np.testing.assert_array_equal(masks_of(studio, 5)[1], corrected)
    assert again.film != tracked.film

    with open_video(again.film) as video:
        assert (len(video), video.height, video.width) == (scene.FRAMES, scene.HEIGHT, scene.WIDTH)
        assert video.fps == work_of(studio).video.fps
    with zipfile.ZipFile(again.masks) as packed:
        for frame, name in enumerate(sorted(packed.namelist(), key=lambda name: Path(name).stem)):
            assert name == f"{frame:05d}.png"
            values = np.asarray(Image.open(BytesIO(packed.read(name))))
            assert set(np.unique(values)) - {0} == set(masks_of(studio, frame))
            for obj_id, mask in masks_of(studio, frame).items():
                np.testing.assert_array_equal(values == obj_id, mask)
        assert frame == scene.FRAMES - 1


def test_what_was_said_is_taken_back(studio: AppState) -> None:
    actions.open_clip(studio, KEY, None)
    actions.mark_clip(studio, KEY, 0, 1, IN)
    one = masks_of(studio, 0)[1]
    actions.mark_clip(studio, KEY, 0, 1, OFF)
    actions.undo_clip(studio, KEY, 0, 1)
    np.testing.assert_array_equal(masks_of(studio, 0)[1], one)
    actions.mark_clip(studio, KEY, 3, 1, IN)
    actions.undo_clip(studio, KEY, 0, 1)
    assert not masks_of(studio, 0) and 1 in masks_of(studio, 3)
    actions.undo_clip(studio, KEY, 3, 1)
    assert not work_of(studio).session.objects
    with pytest.raises(PromptError, match="nothing to take back"):
        actions.undo_clip(studio, KEY, 3, 1)


def test_corrections_outlive_the_prompt_that_tracking_began_with(studio: AppState) -> None:
    actions.open_clip(studio, KEY, None)
    actions.mark_clip(studio, KEY, 0, 1, IN)
    actions.track(studio, KEY, 0, quiet)
    actions.mark_clip(studio, KEY, 4, 1, BOX)
    actions.mark_clip(studio, KEY, 4, 1, OFF)
    said = clips.said_about(work_of(studio), 4, 1)
    assert said.box is not None and said.labels == (0,)
    actions.undo_clip(studio, KEY, 0, 1)
    assert work_of(studio).session.objects[1].conditioning() == [4]
    assert clips.said_about(work_of(studio), 4, 1) == said


def test_a_forgotten_object_leaves_the_others(studio: AppState) -> None:
    actions.open_clip(studio, KEY, None)
    actions.mark_clip(studio, KEY, 0, 1, IN)
    actions.mark_clip(studio, KEY, 0, 2, BOX)
    actions.forget_object(studio, KEY, 0, 1)
    assert set(masks_of(studio, 0)) == {2}
    for number in (0, clips.MAX_OBJECTS + 1):
        with pytest.raises(PromptError, match="up to 8"):
            actions.mark_clip(studio, KEY, 0, number, IN)


def test_visitors_do_not_mix(studio: AppState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tracks while the other does, frame by frame in turn, and gets what they get alone."""
    studio.visitors.enter("two")
    write_clip(tmp_path / "other.mp4", scene.clip(5))
    actions.open_clip(studio, KEY, None)
    actions.open_clip(studio, "two", tmp_path / "other.mp4")
    said = {KEY: IN, "two": BOX}
    for key, mark in said.items():
        assert not masks_of(studio, 0, key)
        actions.mark_clip(studio, key, 0, 1, mark)

    def found(key: str) -> np.ndarray:
        return np.stack([masks_of(studio, t, key).get(1, np.zeros(0)) for t in range(scene.FRAMES)])

    alone = {}
    for key in said:
        actions.track(studio, key, 0, quiet)
        alone[key] = found(key)
    assert not np.array_equal(*alone.values())
    turns = threading.Barrier(2, timeout=PATIENCE)
    both = [threading.Thread(target=actions.track, args=(studio, key, 0, lambda *_: turns.wait())) for key in said]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert not turns.broken
    for key in said:
        np.testing.assert_array_equal(found(key), alone[key])
    monkeypatch.setattr(visitors, "MOST", 2)
    with pytest.raises(EdgeTAMError, match="2 visitors are here already"):
        studio.visitors.enter("three")
    monkeypatch.setattr(visitors, "IDLE", -1.0)
    studio.visitors.enter("three")
    assert len(studio.visitors) == 1


def test_who_leaves_takes_everything_along(studio: AppState, tmp_path: Path) -> None:
    upload = tmp_path / "mine.mp4"
    write_clip(upload, scene.clip(2))
    actions.open_clip(studio, KEY, upload)
    visitor = studio.visitors.find(KEY)
    assert not upload.exists() and files(visitor) == ["mine.mp4"]
    actions.mark_clip(studio, KEY, 0, 1, IN)
    leaving = threading.Thread(target=studio.visitors.leave, args=(KEY,))

    def leave(done: int, total: int) -> None:
        if not visitor.gone:
            leaving.start()
            assert visitor.stop.wait(PATIENCE)

    with pytest.raises(EdgeTAMError, match="ended"):
        actions.track(studio, KEY, 0, leave)
    leaving.join(PATIENCE)
    studio.visitors.leave(KEY)
    assert not len(studio.visitors) and not visitor.folder.exists() and visitor.clip is None
    with pytest.raises(EdgeTAMError, match="load the page again"):
        actions.show_frame(studio, KEY, 0)


def test_tracking_is_stopped_and_alone(studio: AppState) -> None:
    actions.open_clip(studio, KEY, None)
    actions.mark_clip(studio, KEY, 0, 1, IN)

    def meddle(done: int, total: int) -> None:
        with pytest.raises(EdgeTAMError, match="being tracked"):
            actions.mark_clip(studio, KEY, 0, 1, IN)
        actions.show_frame(studio, KEY, 0)
        assert "Stopping" in actions.stop(studio, KEY)

    assert f"after 1 of {scene.FRAMES}" in actions.track(studio, KEY, 0, meddle).note
    assert "Nothing" in actions.stop(studio, KEY)


def test_turns(tmp_path: Path) -> None:
    """Who comes while a clip is tracked is refused at once; after it nothing begins before all looks have ended."""
    visitor, order = AppSession(tmp_path), list[str]()

    def wait() -> None:
        with pytest.raises(EdgeTAMError, match="being tracked"), visitor.turn():
            order.append("a turn while tracking")
        order.append("refused")

    def work() -> None:
        with visitor.turn():
            order.append("worked")

    threads = [threading.Thread(target=target) for target in (wait, work)]
    with contextlib.ExitStack() as look:
        with visitor.tracking_turn():
            threads[0].start()
            threads[0].join(PATIENCE)
            look.enter_context(visitor.turn(looking=True))
        threads[1].start()
        threads[1].join(0.1)
        order.append("looked")
    threads[1].join(PATIENCE)
    assert order == ["refused", "looked", "worked"]


@pytest.fixture
def refused(studio: AppState, tmp_path: Path) -> Iterator[Path]:
    """An upload that cannot be used: it is removed, and what was there before stays."""
    actions.open_clip(studio, KEY, None)
    actions.mark_clip(studio, KEY, 0, 1, IN)
    work = work_of(studio)
    path = tmp_path / "upload.mp4"
    yield path
    assert not path.exists() and not files(studio.visitors.find(KEY))
    assert work_of(studio) is work and masks_of(studio, 0)


@pytest.mark.parametrize(("content", "why"), [(b"no video" * 100, "not a video"), (b"", "empty")])
def test_clips_that_cannot_be_read(studio: AppState, refused: Path, content: bytes, why: str) -> None:
    refused.write_bytes(content)
    with pytest.raises(FrameError, match=why):
        actions.open_clip(studio, KEY, refused)


@pytest.mark.parametrize(
    ("limit", "value", "why"), [("MAX_FRAMES", scene.FRAMES - 1, "takes up to 7"), ("MAX_PIXELS", 100, "48x36")]
)
def test_clips_that_are_too_much(
    studio: AppState, refused: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, why: str
) -> None:
    write_clip(refused, scene.clip(1))
    monkeypatch.setattr(clips, limit, value)
    with pytest.raises(FrameError, match=why):
        actions.open_clip(studio, KEY, refused)


def test_an_upload_that_is_gone(studio: AppState, refused: Path) -> None:
    """Two visitors who upload the same file at the same time share it, and the first one takes it."""
    with pytest.raises(EdgeTAMError, match="upload it again"):
        actions.open_clip(studio, KEY, refused)


def test_uploads_that_are_none(studio: AppState) -> None:
    """A browser may name any file that gradio may serve, and choose its own key."""
    studio.visitors.enter("../two")
    other = studio.visitors.find("../two").folder
    assert other.parent == studio.root
    theirs = other / "theirs.mp4"
    shutil.copy(studio.example(), theirs)
    for path in (studio.example(), theirs, other / ".." / "example.mp4", studio.root):
        for action in (actions.open_clip, actions.open_image):
            with pytest.raises(EdgeTAMError, match="no upload"):
                action(studio, KEY, path)
    assert studio.example().exists() and theirs.exists()


def test_clicks_that_make_no_sense(studio: AppState) -> None:
    with pytest.raises(EdgeTAMError, match="no clip yet"):
        actions.mark_clip(studio, KEY, 0, 1, IN)
    with pytest.raises(EdgeTAMError, match="no image yet"):
        actions.mark_image(studio, KEY, IN)
    actions.open_clip(studio, KEY, None)
    with pytest.raises(PromptError, match="nothing to track"):
        actions.track(studio, KEY, 0, quiet)
    with pytest.raises(PromptError, match="outside the frame"):
        actions.mark_clip(studio, KEY, 0, 1, click(60, 14))
    with pytest.raises(PromptError, match="there is no frame"):
        actions.mark_clip(studio, KEY, scene.FRAMES, 1, IN)
    assert not work_of(studio).session.objects
    actions.mark_clip(studio, KEY, 0, 1, IN)  # and it goes on


def test_images(studio: AppState, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = actions.open_image(studio, KEY, None)
    assert opened.masks is None
    work = studio.visitors.find(KEY).the_image()
    first = actions.mark_image(studio, KEY, IN)
    one = values_of(first)
    expected, ious, _ = work.predictor.predict([[12, 14]], [1])
    np.testing.assert_array_equal(one, expected[np.argmax(ious)])
    second = actions.mark_image(studio, KEY, OFF)
    assert not np.array_equal(values_of(second), one)
    assert first.masks != second.masks and first.masks is not None and not first.masks.exists()
    np.testing.assert_array_equal(values_of(actions.undo_image(studio, KEY)), one)
    actions.mark_image(studio, KEY, BOX)
    assert work.said == Said(box=pytest.approx((22, 12, 40, 28)))
    assert actions.undo_image(studio, KEY).masks is None
    with pytest.raises(PromptError, match="nothing to take back"):
        actions.undo_image(studio, KEY)

    square = np.zeros((scene.HEIGHT, scene.WIDTH), bool)
    square[4:20, 4:20] = True
    small = np.zeros_like(square)
    small[6:10, 6:10] = True
    records = [{"segmentation": rle_encode(mask), "area": int(mask.sum())} for mask in (small, square)]
    monkeypatch.setattr(images.AutomaticMaskGenerator, "generate", lambda self, image: records)
    view = actions.find_everything(studio, KEY, 4)
    assert view.note.startswith("2 masks, from 16") and work.said == NOTHING
    values = values_of(view)
    assert values[5, 5] == 1 and values[7, 7] == 2


def test_large_images_are_scaled_down(studio: AppState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", scene.HEIGHT * scene.WIDTH // 4)
    view = actions.open_image(studio, KEY, None)
    assert view.picture.shape == (scene.HEIGHT // 2, scene.WIDTH // 2, 3) and "24x18 pixels, scaled down" in view.note
    assert values_of(actions.mark_image(studio, KEY, IN)).shape == view.picture.shape[:2]


def test_images_that_cannot_be_used(studio: AppState, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"no image")
    with pytest.raises(FrameError):
        actions.open_image(studio, KEY, path)
    assert not path.exists()


def test_getting_ready_fails(ready: AppState, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for ever; only the example is missing."""

    def fail() -> np.ndarray:
        raise OSError("no space left")

    studio = AppState(ready.model, tmp_path / "studio", fail)
    studio.start()
    studio.visitors.enter(KEY)
    with pytest.raises(EdgeTAMError, match="no space left.*upload a clip of your own"):
        actions.open_clip(studio, KEY, None)
    write_clip(tmp_path / "mine.mp4", scene.clip(2))
    assert actions.open_clip(studio, KEY, tmp_path / "mine.mp4").last == scene.FRAMES - 1
    assert "could not get ready" in caplog.text
    studio.visitors.close()
