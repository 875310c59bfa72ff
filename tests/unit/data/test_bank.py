"""Banks of textures: what is packed, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from edgetam_jax.cli import main as cli
from edgetam_jax.data import bank as bank_module
from edgetam_jax.data.bank import BACKGROUND_SIDE, FORMAT, THING_SIDE, read_bank
from edgetam_jax.data.packing import MARGIN, Source, pack_bank
from edgetam_jax.errors import ConfigError, EdgeTAMError, FrameError, OutputError
from tests.unit.data.footage import COLORS, HEIGHT, WIDTH, make_coco, make_videos
from tests.unit.data.textures import make_folders


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pictures")
    made = make_folders(root)
    return made | {"annotated": make_videos(root / "videos", {"a": 4, "b": 12})}


def test_a_command_packs_folders(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = [part for kind, folder in folders.items() for part in (f"--{kind}", str(folder))]
    assert cli.main(["bank", *options, "--out", str(tmp_path / "bank")]) == 0
    bank = read_bank(tmp_path / "bank")
    assert bank.fingerprint in capsys.readouterr().out
    textures = bank.textures
    assert textures.photographs.shape == (2, BACKGROUND_SIDE, BACKGROUND_SIDE, 3)
    np.testing.assert_allclose(textures.photograph_aspects, [1.5, 0.5])
    assert textures.clips.tolist() == [[0, 3], [3, 5]] and len(textures.frames) == 8
    np.testing.assert_array_equal(textures.frames[:, 0, 0, 0], [0, 10, 20, 100, 110, 120, 130, 140])
    # Four cut-outs, two of which are one drawing; two objects of each annotated frame, at most eight frames of a video.
    weights = np.diff(textures.thing_shares, prepend=0)
    assert len(textures.things) == 4 + 2 * (4 + 8)
    np.testing.assert_allclose(weights[:4] / weights[3], [0.5, 0.5, 1, 1], rtol=1e-4)
    np.testing.assert_allclose(weights[4:12].sum() / weights[3], 1, rtol=1e-4)
    assert textures.thing_shares[-1] == 1


def test_a_thing_fills_its_texture(folders: dict[str, Path], tmp_path: Path) -> None:
    """Its colours go on around it, and its size is that of a disk of its area with radius 1."""
    pack_bank([Source("cutouts", folders["cutouts"])], tmp_path / "bank")
    textures = read_bank(tmp_path / "bank").textures
    square = np.asarray(textures.things[3])
    opaque = square[..., 3] >= 128
    inner = slice(MARGIN, THING_SIDE - MARGIN)
    assert opaque[inner, inner].mean() > 0.999 and opaque.sum() == opaque[inner, inner].sum()
    assert np.ptp(square[..., :3].reshape(-1, 3).astype(int), 0).max() <= 2
    share = (THING_SIDE - 2 * MARGIN) / THING_SIDE
    np.testing.assert_allclose(textures.thing_sizes[3] * share, np.sqrt(np.pi) / 2, rtol=1e-3)
    wide = np.asarray(textures.thing_sizes[2])
    np.testing.assert_allclose(wide[0] / wide[1], 2, rtol=1e-3)


def test_objects_of_annotated_pictures_become_things(tmp_path: Path) -> None:
    coco = make_coco(tmp_path / "coco", 3)
    pack_bank([Source("annotated", coco)], tmp_path / "bank")
    things = np.asarray(read_bank(tmp_path / "bank").textures.things)
    middles = things[:, THING_SIDE // 2, THING_SIDE // 2]
    assert len(things) >= 3 and (middles[:, 3] == 255).all()
    nearest = np.abs(middles[:, None, :3].astype(int) - COLORS[1:]).max(-1).min(1)
    assert nearest.max() < 12


def test_the_fingerprint_is_that_of_the_content(folders: dict[str, Path], tmp_path: Path) -> None:
    sources = [Source("photographs", folders["photographs"]), Source("cutouts", folders["cutouts"])]
    first = pack_bank(sources, tmp_path / "a")
    assert pack_bank(sources, tmp_path / "b") == first
    assert pack_bank(sources[1:], tmp_path / "c") != first
    with pytest.raises(OutputError, match="exists"):
        pack_bank(sources, tmp_path / "a")
    pack_bank(sources[1:], tmp_path / "a", force=True)
    assert read_bank(tmp_path / "a").fingerprint != first


def _rgb(path: Path) -> None:
    Image.new("RGB", (64, 64), (1, 2, 3)).save(path / "c.png")


def _tiny(path: Path) -> None:
    Image.new("RGBA", (64, 8), (1, 2, 3, 0)).save(path / "c.png")


def _clear(path: Path) -> None:
    Image.new("RGBA", (64, 64), (1, 2, 3, 0)).save(path / "c.png")


def _broken(path: Path) -> None:
    whole = path / "c.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 4), np.uint8)).save(whole)
    whole.write_bytes(whole.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("kind", "make", "message"),
    [
        ("photographs", lambda path: None, "holds no images"),
        ("photographs", _tiny, "64x8 pixels; expected at least 32x32"),
        ("photographs", _broken, "c.png: the image is broken"),
        ("cutouts", lambda path: None, "holds no images"),
        ("cutouts", _rgb, "c.png has no transparent pixel; expected a cut-out with alpha"),
        ("cutouts", _clear, "transparent nearly everywhere"),
        ("cutouts", _broken, "c.png: the image is broken"),
        ("clips", _rgb, "holds no folder"),
        ("annotated", _rgb, "no dataset that is known here"),
    ],
)
def test_pictures_that_cannot_be_used(
    kind: str, make: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    assert cli.main(["bank", f"--{kind}", str(folder), "--out", str(tmp_path / "bank")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bank").exists()


def test_sources_that_cannot_be_used(tmp_path: Path) -> None:
    out = tmp_path / "bank"
    with pytest.raises(ConfigError, match="the sources are none"):
        pack_bank([], out)
    with pytest.raises(FrameError, match=r"there is no such folder; expected one of clips"):
        pack_bank([Source("clips", tmp_path / "no")], out)
    for name, size in (("00000.png", (64, 64)), ("00001.png", (64, 48))):
        (tmp_path / "clips" / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "clips" / "a" / name)
    with pytest.raises(FrameError, match="frames differ in shape"):
        pack_bank([Source("clips", tmp_path / "clips")], out)


def test_annotations_that_do_not_fit(tmp_path: Path) -> None:
    coco = make_coco(tmp_path / "coco", 3)
    (file,) = (coco / "annotations").glob("*.json")
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["height"], image["width"] = HEIGHT + 2, WIDTH
    file.write_text(json.dumps(content))
    with pytest.raises(FrameError, match="differ in size"):
        pack_bank([Source("annotated", coco)], tmp_path / "bank")


def test_files_that_are_no_bank(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bank"
    with pytest.raises(FrameError, match="there is no such file"):
        read_bank(path)
    path.write_bytes(b"no bank")
    with pytest.raises(FrameError, match="not a bank that can be read"):
        read_bank(path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(FrameError, match="not a bank of textures of this version"):
        read_bank(path)
    fingerprint = pack_bank([Source("cutouts", folders["cutouts"])], path, force=True)
    arrays = load_file(path)
    arrays["things"][0, 0, 0, 0] ^= 1
    save_file(arrays, path, {"format": FORMAT, "fingerprint": fingerprint})
    with pytest.raises(FrameError, match="content does not have the fingerprint"):
        read_bank(path)
    monkeypatch.setattr(bank_module, "memory_limit", lambda: 1000)
    with pytest.raises(FrameError, match="GB of memory. Make a bank from fewer pictures"):
        read_bank(path)
    assert issubclass(FrameError, EdgeTAMError)
