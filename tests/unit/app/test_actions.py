"""Sessions of the app without a browser, and errors of their users."""

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

from edgetam_jax.app import actions, clips, images, sessions
from edgetam_jax.app.app_state import AppState, write_clip
from edgetam_jax.app.gestures import EMPTY, Gesture, ObjectPrompt
from edgetam_jax.app.sessions import AppSession
from edgetam_jax.errors import EdgeTAMError, FrameError, PromptError
from edgetam_jax.media.video import open_video
from edgetam_jax.ops.rle import rle_encode
from tests.support import scene
from tests.support.visits import KEY, PATIENCE


def click(x: float, y: float, positive: bool = True) -> Gesture:
    """A click at a place in pixels of the scene."""
    place = x / scene.WIDTH, y / scene.HEIGHT
    return Gesture(place, place, positive)


IN, OFF = click(12, 14), click(40, 3, positive=False)
BOX = Gesture((40 / scene.WIDTH, 28 / scene.HEIGHT), (22 / scene.WIDTH, 12 / scene.HEIGHT))


def quiet(done: int, total: int) -> None:
    pass


def clip_of(state: AppState, key: str = KEY) -> clips.OpenClip:
    return state.sessions.get(key).require_clip()


def masks_of(state: AppState, frame: int, key: str = KEY) -> dict[int, np.ndarray]:
    clip = clip_of(state, key)
    _, obj_ids, logits = clip.predictor.get_masks(clip.session, frame)
    return {obj_id: mask for obj_id, mask in zip(obj_ids, logits[:, 0] > 0, strict=True) if mask.any()}


def values_of(view: actions.ImageView) -> np.ndarray:
    assert view.masks is not None
    return np.asarray(Image.open(view.masks))


def files(session: AppSession) -> list[str]:
    return sorted(path.name for path in session.folder.rglob("*") if path.is_file())


def test_a_session(state: AppState, compilations: list[str]) -> None:
    """Click, box, track, correct, track again, download. No large program is compiled after opening."""
    opened = actions.open_clip(state, KEY, None)
    assert opened.last_frame == scene.FRAMES - 1 and opened.picture.shape == (scene.HEIGHT, scene.WIDTH, 3)
    view = actions.prompt_clip(state, KEY, 2, 1, IN)
    assert "Object 1 on frame 2" in view.note
    assert not np.array_equal(view.picture, opened.picture)
    actions.prompt_clip(state, KEY, 2, 2, BOX)
    prompt = clips.prompt_at(clip_of(state), 2, 2)
    assert prompt.box == pytest.approx((22, 12, 40, 28)) and prompt.points == ()
    reported: list[tuple[int, int]] = []
    tracked = actions.track(state, KEY, 0, lambda done, total: reported.append((done, total)))
    assert sorted(set(reported)) == [(done, scene.FRAMES) for done in range(1, scene.FRAMES + 1)]
    before = [masks_of(state, frame) for frame in range(scene.FRAMES)]
    assert all(1 in masks for masks in before) and sum(2 in masks for masks in before) > 3

    for gesture in (OFF, click(20, 14), click(22, 16), click(18, 12)):
        actions.prompt_clip(state, KEY, 5, 1, gesture)
    assert not compilations
    corrected = masks_of(state, 5)[1]
    assert not np.array_equal(corrected, before[5][1])
    again = actions.track(state, KEY, 0, quiet)
    np.testing.assert_array_equal(masks_of(state, 5)[1], corrected)
    assert again.video != tracked.video

    with open_video(again.video) as video:
        assert (len(video), video.height, video.width) == (scene.FRAMES, scene.HEIGHT, scene.WIDTH)
        assert video.fps == clip_of(state).video.fps
    with zipfile.ZipFile(again.masks) as packed:
        names = sorted(packed.namelist(), key=lambda name: Path(name).stem)
        assert len(names) == scene.FRAMES
        for frame, name in enumerate(names):
            assert name == f"{frame:05d}.png"
            values = np.asarray(Image.open(BytesIO(packed.read(name))))
            assert set(np.unique(values)) - {0} == set(masks_of(state, frame))
            for obj_id, mask in masks_of(state, frame).items():
                np.testing.assert_array_equal(values == obj_id, mask)


def test_undo(state: AppState) -> None:
    actions.open_clip(state, KEY, None)
    actions.prompt_clip(state, KEY, 0, 1, IN)
    one = masks_of(state, 0)[1]
    actions.prompt_clip(state, KEY, 0, 1, OFF)
    actions.undo_clip(state, KEY, 0, 1)
    np.testing.assert_array_equal(masks_of(state, 0)[1], one)
    actions.prompt_clip(state, KEY, 3, 1, IN)
    actions.undo_clip(state, KEY, 0, 1)
    assert not masks_of(state, 0) and 1 in masks_of(state, 3)
    actions.undo_clip(state, KEY, 3, 1)
    assert not clip_of(state).session.objects
    with pytest.raises(PromptError, match="nothing to take back"):
        actions.undo_clip(state, KEY, 3, 1)


def test_corrections_stay_when_the_first_prompt_is_undone(state: AppState) -> None:
    actions.open_clip(state, KEY, None)
    actions.prompt_clip(state, KEY, 0, 1, IN)
    actions.track(state, KEY, 0, quiet)
    actions.prompt_clip(state, KEY, 4, 1, BOX)
    actions.prompt_clip(state, KEY, 4, 1, OFF)
    prompt = clips.prompt_at(clip_of(state), 4, 1)
    assert prompt.box is not None and prompt.labels == (0,)
    actions.undo_clip(state, KEY, 0, 1)
    assert clip_of(state).session.objects[1].conditioning() == [4]
    assert clips.prompt_at(clip_of(state), 4, 1) == prompt


def test_a_removed_object_leaves_the_others(state: AppState) -> None:
    actions.open_clip(state, KEY, None)
    actions.prompt_clip(state, KEY, 0, 1, IN)
    actions.prompt_clip(state, KEY, 0, 2, BOX)
    actions.remove_object(state, KEY, 0, 1)
    assert set(masks_of(state, 0)) == {2}
    for number in (0, clips.MAX_OBJECTS + 1):
        with pytest.raises(PromptError, match="up to 8"):
            actions.prompt_clip(state, KEY, 0, number, IN)


def test_sessions_are_independent(state: AppState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions that track frame by frame in turn get the same masks as one after the other."""
    state.sessions.start("two")
    write_clip(tmp_path / "other.mp4", scene.clip(5))
    actions.open_clip(state, KEY, None)
    actions.open_clip(state, "two", tmp_path / "other.mp4")
    gestures = {KEY: IN, "two": BOX}
    for key, gesture in gestures.items():
        assert not masks_of(state, 0, key)
        actions.prompt_clip(state, key, 0, 1, gesture)

    def tracked_masks(key: str) -> np.ndarray:
        return np.stack([masks_of(state, t, key).get(1, np.zeros(0)) for t in range(scene.FRAMES)])

    alone = {}
    for key in gestures:
        actions.track(state, key, 0, quiet)
        alone[key] = tracked_masks(key)
    assert not np.array_equal(*alone.values())
    turns = threading.Barrier(2, timeout=PATIENCE)
    both = [threading.Thread(target=actions.track, args=(state, key, 0, lambda *_: turns.wait())) for key in gestures]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert not turns.broken
    for key in gestures:
        np.testing.assert_array_equal(tracked_masks(key), alone[key])
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    with pytest.raises(EdgeTAMError, match="all 2 sessions are in use"):
        state.sessions.start("three")
    monkeypatch.setattr(sessions, "IDLE_SECONDS", -1.0)
    state.sessions.start("three")
    assert len(state.sessions) == 1


def test_the_end_of_a_session_removes_everything(state: AppState, tmp_path: Path) -> None:
    upload = tmp_path / "mine.mp4"
    write_clip(upload, scene.clip(2))
    actions.open_clip(state, KEY, upload)
    session = state.sessions.get(KEY)
    assert not upload.exists() and files(session) == ["mine.mp4"]
    actions.prompt_clip(state, KEY, 0, 1, IN)
    leaving = threading.Thread(target=state.sessions.end, args=(KEY,))

    def leave(done: int, total: int) -> None:
        if not session.ended:
            leaving.start()
            assert session.stop.wait(PATIENCE)

    with pytest.raises(EdgeTAMError, match="ended"):
        actions.track(state, KEY, 0, leave)
    leaving.join(PATIENCE)
    state.sessions.end(KEY)
    assert not len(state.sessions) and not session.folder.exists() and session.clip is None
    with pytest.raises(EdgeTAMError, match="load the page again"):
        actions.show_frame(state, KEY, 0)


def test_tracking_is_stopped_and_refuses_other_actions(state: AppState) -> None:
    actions.open_clip(state, KEY, None)
    actions.prompt_clip(state, KEY, 0, 1, IN)

    def meddle(done: int, total: int) -> None:
        with pytest.raises(EdgeTAMError, match="being tracked"):
            actions.prompt_clip(state, KEY, 0, 1, IN)
        actions.show_frame(state, KEY, 0)
        assert "Stopping" in actions.stop(state, KEY)

    assert f"after 1 of {scene.FRAMES}" in actions.track(state, KEY, 0, meddle).note
    assert "Nothing" in actions.stop(state, KEY)


def test_one_action_at_a_time(tmp_path: Path) -> None:
    """During tracking an action is refused at once; after it, an action waits for the read-only ones to end."""
    session, order = AppSession(tmp_path), list[str]()

    def wait() -> None:
        with pytest.raises(EdgeTAMError, match="being tracked"), session.action():
            order.append("an action while tracking")
        order.append("refused")

    def work() -> None:
        with session.action():
            order.append("worked")

    threads = [threading.Thread(target=target) for target in (wait, work)]
    with contextlib.ExitStack() as reading:
        with session.tracking_action():
            threads[0].start()
            threads[0].join(PATIENCE)
            reading.enter_context(session.action(read_only=True))
        threads[1].start()
        threads[1].join(0.1)
        order.append("read")
    threads[1].join(PATIENCE)
    assert order == ["refused", "read", "worked"]


@pytest.fixture
def refused(state: AppState, tmp_path: Path) -> Iterator[Path]:
    """The path of an invalid upload: it is removed, and the clip before it stays open."""
    actions.open_clip(state, KEY, None)
    actions.prompt_clip(state, KEY, 0, 1, IN)
    clip = clip_of(state)
    path = tmp_path / "upload.mp4"
    yield path
    assert not path.exists() and not files(state.sessions.get(KEY))
    assert clip_of(state) is clip and masks_of(state, 0)


@pytest.mark.parametrize(("content", "message"), [(b"no video" * 100, "not a video"), (b"", "empty")])
def test_unreadable_clips(state: AppState, refused: Path, content: bytes, message: str) -> None:
    refused.write_bytes(content)
    with pytest.raises(FrameError, match=message):
        actions.open_clip(state, KEY, refused)


@pytest.mark.parametrize(
    ("limit", "value", "message"), [("MAX_FRAMES", scene.FRAMES - 1, "takes up to 7"), ("MAX_PIXELS", 100, "48x36")]
)
def test_clips_beyond_the_limits(
    state: AppState, refused: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str
) -> None:
    write_clip(refused, scene.clip(1))
    monkeypatch.setattr(clips, limit, value)
    with pytest.raises(FrameError, match=message):
        actions.open_clip(state, KEY, refused)


def test_an_upload_that_is_gone(state: AppState, refused: Path) -> None:
    """Two sessions that upload the same file at the same time share it in gradio, and the first one moves it."""
    with pytest.raises(EdgeTAMError, match="upload it again"):
        actions.open_clip(state, KEY, refused)


def test_files_that_are_not_uploads(state: AppState) -> None:
    """A browser can name any file that gradio may serve, and choose its own key."""
    state.sessions.start("../two")
    other = state.sessions.get("../two").folder
    assert other.parent == state.root
    theirs = other / "theirs.mp4"
    shutil.copy(state.example_path(), theirs)
    for path in (state.example_path(), theirs, other / ".." / "example.mp4", state.root):
        for action in (actions.open_clip, actions.open_image):
            with pytest.raises(EdgeTAMError, match="not an upload"):
                action(state, KEY, path)
    assert state.example_path().exists() and theirs.exists()


def test_invalid_actions(state: AppState) -> None:
    with pytest.raises(EdgeTAMError, match="no clip yet"):
        actions.prompt_clip(state, KEY, 0, 1, IN)
    with pytest.raises(EdgeTAMError, match="no image yet"):
        actions.prompt_image(state, KEY, IN)
    actions.open_clip(state, KEY, None)
    with pytest.raises(PromptError, match="nothing to track"):
        actions.track(state, KEY, 0, quiet)
    with pytest.raises(PromptError, match="outside the frame"):
        actions.prompt_clip(state, KEY, 0, 1, click(60, 14))
    with pytest.raises(PromptError, match="there is no frame"):
        actions.prompt_clip(state, KEY, scene.FRAMES, 1, IN)
    assert not clip_of(state).session.objects
    actions.prompt_clip(state, KEY, 0, 1, IN)  # a valid one still works


def test_images(state: AppState, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = actions.open_image(state, KEY, None)
    assert opened.masks is None
    image = state.sessions.get(KEY).require_image()
    first = actions.prompt_image(state, KEY, IN)
    one = values_of(first)
    expected, ious, _ = image.predictor.predict([[12, 14]], [1])
    np.testing.assert_array_equal(one, expected[np.argmax(ious)])
    second = actions.prompt_image(state, KEY, OFF)
    assert not np.array_equal(values_of(second), one)
    assert first.masks != second.masks and first.masks is not None and not first.masks.exists()
    np.testing.assert_array_equal(values_of(actions.undo_image(state, KEY)), one)
    actions.prompt_image(state, KEY, BOX)
    assert image.prompt == ObjectPrompt(box=pytest.approx((22, 12, 40, 28)))
    assert actions.undo_image(state, KEY).masks is None
    with pytest.raises(PromptError, match="nothing to take back"):
        actions.undo_image(state, KEY)

    square = np.zeros((scene.HEIGHT, scene.WIDTH), bool)
    square[4:20, 4:20] = True
    small = np.zeros_like(square)
    small[6:10, 6:10] = True
    records = [{"segmentation": rle_encode(mask), "area": int(mask.sum())} for mask in (small, square)]
    monkeypatch.setattr(images.AutomaticMaskGenerator, "generate", lambda *_: records)
    view = actions.segment_everything(state, KEY, 4)
    assert view.note.startswith("2 masks, from 16") and image.prompt == EMPTY
    values = values_of(view)
    assert values[5, 5] == 1 and values[7, 7] == 2


def test_large_images_are_scaled_down(state: AppState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", scene.HEIGHT * scene.WIDTH // 4)
    view = actions.open_image(state, KEY, None)
    assert view.picture.shape == (scene.HEIGHT // 2, scene.WIDTH // 2, 3) and "24x18 pixels, scaled down" in view.note
    assert values_of(actions.prompt_image(state, KEY, IN)).shape == view.picture.shape[:2]


def test_unreadable_images(state: AppState, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"no image")
    with pytest.raises(FrameError):
        actions.open_image(state, KEY, path)
    assert not path.exists()


def test_preparing_fails(ready: AppState, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Sessions do not wait for ever; only the example is missing."""

    def fail() -> np.ndarray:
        raise OSError("no space left")

    state = AppState(ready.model, tmp_path / "state", fail)
    state.start()
    state.sessions.start(KEY)
    with pytest.raises(EdgeTAMError, match="no space left.*upload a clip of your own"):
        actions.open_clip(state, KEY, None)
    write_clip(tmp_path / "mine.mp4", scene.clip(2))
    assert actions.open_clip(state, KEY, tmp_path / "mine.mp4").last_frame == scene.FRAMES - 1
    assert "could not be prepared" in caplog.text
    state.sessions.close()
