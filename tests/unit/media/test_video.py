import fractions
import gc
import itertools
import struct
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from edgetam_jax.errors import FrameError
from edgetam_jax.media import video_reader
from edgetam_jax.media.image import read_image
from edgetam_jax.media.video import open_video
from tests.support.waiting import wait_until

HEIGHT, WIDTH = 48, 64


def picture(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Flat but for a bright left half, so that codecs keep it and its number can be read back."""
    frame = np.full((height, width, 3), 4 * index + 10, np.uint8)
    frame[:, : width // 2] += 80
    return frame


def number(frame: np.ndarray) -> int:
    return round((float(frame[:, -WIDTH // 4 :].mean()) - 10) / 4)


def write_folder(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for i, name in enumerate(names):
        Image.fromarray(picture(i)).save(folder / name)
    return folder


def write_video(path: Path, frames: list[np.ndarray], codec: str = "mpeg4", gop: int = 5, times=None) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        stream.gop_size = gop
        stream.options = {"sc_threshold": "1000000000" if codec == "mpeg4" else "0"}  # fresh starts every `gop` frames
        tick = fractions.Fraction(1, 1000) if times else fractions.Fraction(1, 25)
        stream.codec_context.time_base = tick
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = times[i] if times else i
            frame.time_base = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", [picture(i) for i in range(30)])


def threads() -> int:
    return sum(t.name.startswith("edgetam-frames") for t in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    gc.collect()
    assert threads() == 0


def test_folder_in_natural_order_with_any_names(tmp_path):
    names = ["frame1.PNG", "frame2.png", "frame10.jpg", "frame10b.JPEG", "frame100.webp", "z.bmp"]
    folder = write_folder(tmp_path / "frames", names)
    (folder / "notes.txt").write_text("no frame")
    (folder / "._frame1.png").write_bytes(b"no frame either")
    for source in (folder, str(folder)):
        with open_video(source) as video:
            assert (len(video), video.height, video.width, video.fps) == (6, HEIGHT, WIDTH, None)
            assert [number(f) for f in video] == list(range(6))
            assert [number(f) for f in video.frames(4, step=-2)] == [4, 2, 0]
            assert [number(f) for f in video.frames(1, 3)] == [1, 2]
            assert list(video.frames(6)) == []
            assert number(video[-1]) == 5
            frame = video[0]
            np.testing.assert_array_equal(frame, picture(0))
            assert frame.dtype == np.uint8


def test_images_of_all_kinds_become_upright_rgb(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    alpha = np.full((6, 4, 1), 7, np.uint8)
    deep = rgb[..., 0].astype(np.uint16) * 256 + 99
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.fromarray(np.concatenate([rgb, alpha], -1)).save(tmp_path / "1.png")
    Image.fromarray(rgb[..., 0]).save(tmp_path / "2.png")
    Image.fromarray(deep).save(tmp_path / "3.png")
    Image.fromarray(np.rot90(rgb)).save(tmp_path / "4.png", exif=exif)
    gray = np.repeat(rgb[..., :1], 3, -1)
    for got, want in zip(open_video(tmp_path), (rgb, gray, gray, rgb), strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(read_image(tmp_path / "4.png"), rgb)
    with open_video(tmp_path / "4.png") as video:
        assert len(video) == 1
        np.testing.assert_array_equal(video[0], rgb)


def test_arrays_and_lists(tmp_path):
    frames = np.stack([picture(i) for i in range(5)])
    path = tmp_path / "x.png"
    Image.fromarray(frames[1]).save(path)
    mixed = [Image.fromarray(frames[0]), path, frames[2], *frames[3:]]
    for source in (frames, list(frames), mixed, tuple(mixed), frames.astype(np.float32) / 255):
        video = open_video(source)
        assert open_video(video) is video
        assert (len(video), video.height, video.width) == (5, HEIGHT, WIDTH)
        np.testing.assert_array_equal(np.stack(list(video)), frames)
        np.testing.assert_array_equal(video[3], frames[3])
    assert len(open_video(frames[0])) == len(open_video(Image.fromarray(frames[0]))) == 1


def test_iterator_is_read_once_and_no_further_than_asked():
    asked = []

    def camera():
        for i in range(8):
            asked.append(i)
            yield picture(i)

    video = open_video(camera())
    assert (asked, video.num_frames, video.height) == ([0], None, HEIGHT)
    with pytest.raises(TypeError, match="unknown"):
        len(video)
    assert [number(f) for f in itertools.islice(video, 3)] == [0, 1, 2]
    assert asked == [0, 1, 2]
    assert number(video[2]) == 2
    assert number(video[5]) == 5
    with pytest.raises(FrameError, match="frame 4 of the iterator is gone, it stands at 5"):
        video[4]
    with pytest.raises(FrameError, match="counts from the end"):
        video[-1]
    with pytest.raises(FrameError, match="negative"):
        video.frames(5, step=-1)
    assert [number(f) for f in video.frames(6)] == [6, 7]
    assert len(video) == 8
    unread = open_video(iter([picture(0)]))
    with pytest.raises(FrameError, match="ended after 1"):
        unread[1]


def test_video_file_forwards_backwards_and_at_random(clip):
    with open_video(clip) as video:
        assert video._source.keyframes == [0, 5, 10, 15, 20, 25]
        assert (len(video), video.height, video.width, video.fps) == (30, HEIGHT, WIDTH, 25.0)
        assert [number(f) for f in video] == list(range(30))
        assert [number(f) for f in video.frames(17)] == list(range(17, 30))
        assert [number(f) for f in video.frames(29, step=-1)] == list(range(29, -1, -1))
        order = np.random.default_rng(0).permutation(30)
        assert [number(video[i]) for i in order] == list(order)


@pytest.mark.parametrize("name", ["clip.avi", "clip.mkv", "b_frames.mp4", "clip.ts"])
def test_other_containers_and_reordered_frames(tmp_path, name):
    codec = "mpeg4" if name != "b_frames.mp4" else "libx264"
    path = write_video(tmp_path / name, [picture(i) for i in range(24)], codec, gop=8)
    with open_video(path) as video:
        assert len(video) == 24
        assert [number(f) for f in video] == list(range(24))
        order = np.random.default_rng(0).permutation(24)
        assert [number(video[i]) for i in order] == list(order)


def test_going_back_without_time_stamps_begins_at_the_first_frame(clip, monkeypatch):
    packets = video_reader._read_timestamps
    monkeypatch.setattr(video_reader, "_read_timestamps", lambda *a: [(None, key) for _, key in packets(*a)])
    monkeypatch.setattr(video_reader, "_CACHED_PIXELS", 0)
    with open_video(clip) as video:
        assert len(video) == 30
        assert [number(video[i]) for i in (20, 3, 29, 0)] == [20, 3, 29, 0]


def test_reading_backwards_does_not_decode_everything_again(clip, monkeypatch):
    decoded = []
    forward = video_reader.VideoFileReader._decode_until
    monkeypatch.setattr(
        video_reader.VideoFileReader, "_decode_until", lambda self, i: (decoded.append(i), forward(self, i))[1]
    )
    monkeypatch.setattr(video_reader, "_CACHED_PIXELS", 10 * HEIGHT * WIDTH)
    video = open_video(clip)
    decoded.clear()
    assert [number(f) for f in video.frames(29, step=-1)] == list(range(29, -1, -1))
    assert len(decoded) < 10
    reader = video._source.reader()
    for i in range(30):
        reader.read(i)
    assert len(reader._cache) == 10
    reader.close()


def test_variable_frame_rate_is_numbered_in_order(tmp_path):
    times = list(itertools.accumulate([0, 20, 300, 10, 10, 900, 40, 40, 1, 2, 500, 33]))
    with open_video(write_video(tmp_path / "v.mp4", [picture(i) for i in range(12)], gop=4, times=times)) as video:
        assert [number(f) for f in video] == list(range(12))
        assert [number(video[i]) for i in (8, 2, 11, 5, 0)] == [8, 2, 11, 5, 0]


def test_phone_videos_are_turned_upright(tmp_path, clip):
    data = bytearray(clip.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)  # clockwise by 90 degrees
    path = tmp_path / "phone.mp4"
    path.write_bytes(data)
    with open_video(path) as video, open_video(clip) as flat:
        assert (video.height, video.width) == (WIDTH, HEIGHT)
        np.testing.assert_array_equal(video[7], np.rot90(flat[7], -1))
        assert video[7].flags.c_contiguous


def test_read_ahead_is_bounded_and_ends_with_its_consumer(tmp_path):
    folder = write_folder(tmp_path / "frames", [f"{i}.png" for i in range(20)])
    video = open_video(folder, read_ahead=3)
    read = []
    load = video._source.read
    video._source.read = lambda i: (read.append(i), load(i))[1]
    frames = video.frames(2)
    assert threads() == 0
    assert number(next(frames)) == 2
    wait_until(lambda: len(read) == 4, "reading ahead")
    time.sleep(0.2)  # an unbounded reader would go on
    assert read == [2, 3, 4, 5]
    assert threads() == 1
    frames.close()
    assert threads() == 0
    for _ in video:
        break
    gc.collect()
    assert threads() == 0
    assert [number(f) for f in open_video(folder, read_ahead=0)] == list(range(20))


def test_closing_ends_running_iterations(clip):
    video = open_video(clip)
    frames = video.frames()
    next(frames)
    video[3]
    assert threads() == 1
    video.close()
    video.close()
    assert threads() == 0
    with pytest.raises(FrameError, match="closed"):
        list(frames)
    with pytest.raises(FrameError, match="closed"):
        video[0]
    with pytest.raises(FrameError, match="closed"):
        next(video.frames())


def test_a_broken_image_is_named_where_it_is_reached(tmp_path):
    folder = write_folder(tmp_path / "frames", [f"{i}.png" for i in range(8)])
    data = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(data[: len(data) // 2])
    got = []
    with open_video(folder) as video:
        with pytest.raises(FrameError, match=r"5\.png.*broken"):
            got.extend(number(f) for f in video)
        assert got == [0, 1, 2, 3, 4]
        with pytest.raises(FrameError, match=r"5\.png"):
            video[5]
        assert number(video[6]) == 6


@pytest.mark.parametrize("kind", ["folder", "list", "iterator"])
def test_the_first_frame_of_another_size_is_named(tmp_path, kind):
    frames = [picture(0), picture(1), picture(2, 50, 60), picture(3, 10, 10)]
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    source = {"folder": tmp_path, "list": frames, "iterator": iter(frames)}[kind]
    with pytest.raises(FrameError, match=r"frame 2.* is 60x50 .*, frame 0 is 64x48"):
        list(open_video(source))
    if kind != "iterator":
        with pytest.raises(FrameError, match="frame 2"):
            open_video(tmp_path if kind == "folder" else frames)


def test_a_cut_off_or_broken_video_is_refused(tmp_path, clip):
    data = clip.read_bytes()
    start = data.index(b"mdat")
    moved = tmp_path / "front.mp4"
    with av.open(str(clip)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    whole = moved.read_bytes()
    cases = {
        "empty.mp4": (b"", "file is empty"),
        "text.mp4": (b"no video " * 100, "not a video"),
        "head.mp4": (data[: start + 100], "not a video"),
        "cut.mp4": (whole[: len(whole) * 3 // 4], "cut off; .* of its 30 frames"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FrameError, match=rf"{name}.*{message}"):
            open_video(tmp_path / name)


def test_a_missing_frame_inside_a_video_is_an_error(clip):
    video = open_video(clip)
    video._source.pts[12] += 1  # the file's index names a frame that decoding never gives
    video._source.pts.sort()
    reader = video._source.reader()
    with pytest.raises(FrameError, match="frame 12 of 30 is broken or missing"):
        reader.read(12)
    assert number(reader.read(13)) == 13
    reader.close()


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(FrameError, match="no video stream"):
        open_video(path)


def test_without_pyav_the_error_says_what_to_install(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FrameError, match=r"pip install 'edgetam-jax\[video\]'"):
        open_video(clip)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "missing", "no such file or folder"),
        (lambda d: d, "holds no images"),
        (lambda d: [], "list of frames is empty"),
        (lambda d: iter([]), "gave no frame"),
        (lambda d: [d / "missing.png"], "no such file"),
        (lambda d: np.zeros((0, 4, 4, 3), np.uint8), "empty"),
        (lambda d: np.zeros((3, 5, 6), np.uint8), "grayscale video"),
        (lambda d: 3, "cannot read frames from a int"),
        (lambda d: b"bytes", "cannot read frames from a bytes"),
        (lambda d: [picture(0), "x.png"], "no such file"),
        (lambda d: [np.zeros((3, 4, 4, 3))], "channels last"),
    ],
)
def test_bad_sources(tmp_path, make, message):
    with pytest.raises(FrameError, match=message):
        open_video(make(tmp_path))


def test_an_image_file_that_is_none(tmp_path):
    (tmp_path / "1.jpg").write_text("text")
    with pytest.raises(FrameError, match=r"1\.jpg.*not an image"):
        open_video(tmp_path)
    with pytest.raises(FrameError, match="no such file"):
        read_image(tmp_path / "2.jpg")


def test_frame_numbers_are_checked(clip):
    with open_video(clip) as video:
        for bad in (30, -31):
            with pytest.raises(FrameError, match=f"no frame {bad}; the video has 30"):
                video[bad]
        with pytest.raises(FrameError, match="no frame 31"):
            video.frames(31)
        with pytest.raises(FrameError, match="step is 0"):
            video.frames(step=0)
