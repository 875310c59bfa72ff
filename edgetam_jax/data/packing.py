"""Makes a bank of textures (see `bank`) from folders.

    pack_bank([Source("photographs", Path("photos")), Source("cutouts", Path("cutouts"))], Path("bank.safetensors"))

Everything is checked before the file is written. What cannot be used is an error that names the file.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from edgetam_jax.data.bank import BACKGROUND_SIDE, FORMAT, THING_SIDE, bank_fingerprint
from edgetam_jax.data.layouts import open_training_data
from edgetam_jax.errors import ConfigError, FrameError
from edgetam_jax.media.atomic import check_place, replacing
from edgetam_jax.media.image import images_in, read_rgba, read_square

Kind = Literal["photographs", "clips", "cutouts", "annotated"]
MIN_SIDE = 32  # pixels of a picture
MIN_THING_SIDE = 8  # pixels of a thing's bounding box; smaller objects of annotated pictures are left out
MAX_FRAMES = 8  # of an annotated video from which things are taken
MARGIN = 2  # transparent texels around a thing
OPAQUE = 128  # from this alpha on a pixel belongs to the thing
ANNOTATED_SIDE = 512  # at which annotated pictures are read
SKIN_TONE = re.compile("-1f3f[b-f]")  # in the name of an emoji


class Source(NamedTuple):
    """A folder of photographs, of folders of frames, of cut-outs with alpha, or an annotated dataset."""

    kind: Kind
    path: Path
    split: str | None = None  # of an annotated dataset


class Thing(NamedTuple):
    texture: np.ndarray  # [k, k, 4] uint8
    size: tuple[float, float]  # see `TextureBank.thing_sizes`
    name: str  # things of one name share a weight of 1


def pack_bank(sources: Sequence[Source], out: Path, force: bool = False) -> str:
    """Writes a bank and returns its fingerprint.

    Raises:
        ConfigError: There is no source.
        FrameError: A source has nothing that can be used, or something that cannot be read.
        OutputError: The file cannot be written.
    """
    unknown = [source.kind for source in sources if source.kind not in get_args(Kind)]
    if unknown or not sources:
        raise ConfigError(f"the sources are {unknown or 'none'}; expected some of {', '.join(get_args(Kind))}.")
    check_place(out, force)
    photographs, clips, things = [], [], []
    for source in sources:
        if not source.path.is_dir() and not source.path.is_file():
            raise FrameError(f"{source.path}: there is no such folder; expected one of {source.kind}.")
        if source.kind == "photographs":
            photographs += [_background(path) for path in images_in(source.path)]
        elif source.kind == "clips":
            clips += list(_clips(source.path))
        elif source.kind == "cutouts":
            things += [_cutout(path) for path in images_in(source.path)]
        else:
            things += list(_objects(source))
    arrays = _arrays(photographs, clips, things)
    fingerprint = bank_fingerprint(arrays)
    from safetensors.numpy import save_file

    with replacing(out, force) as partial:
        save_file(arrays, partial, {"format": FORMAT, "fingerprint": fingerprint})
    return fingerprint


def _arrays(photographs: list[Any], clips: list[Any], things: list[Thing]) -> dict[str, np.ndarray]:
    """The fields of `bank.TextureBank`."""

    def stack(textures: list[np.ndarray], side: int, channels: int) -> np.ndarray:
        return np.stack(textures) if textures else np.zeros((0, side, side, channels), np.uint8)

    lengths = np.array([len(frames) for frames, _ in clips], np.int32)
    names = [thing.name for thing in things]
    counts = Counter(names)
    weights = np.array([1 / counts[name] for name in names])
    shares = (np.cumsum(weights) / max(weights.sum(), 1)).astype(np.float32)
    shares[-1:] = 1
    return {
        "photographs": stack([image for image, _ in photographs], BACKGROUND_SIDE, 3),
        "photograph_aspects": np.array([aspect for _, aspect in photographs], np.float32),
        "frames": stack([frame for frames, _ in clips for frame in frames], BACKGROUND_SIDE, 3),
        "clips": np.stack([np.cumsum(lengths) - lengths, lengths], -1).astype(np.int32).reshape(-1, 2),
        "clip_aspects": np.array([aspect for _, aspect in clips], np.float32),
        "things": stack([thing.texture for thing in things], THING_SIDE, 4),
        "thing_sizes": np.array([thing.size for thing in things], np.float32).reshape(-1, 2),
        "thing_shares": shares,
    }


def _background(path: Path) -> tuple[np.ndarray, float]:
    image, (height, width) = read_square(path, BACKGROUND_SIDE)
    _check_size(path, height, width)
    return np.asarray(image), width / height


def _clips(folder: Path) -> Iterator[tuple[list[np.ndarray], float]]:
    """The frames and the aspect of each clip, a folder of images."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise FrameError(f"{folder} holds no folder; expected a folder of frames for each clip.")
    for clip in folders:
        frames, aspects = zip(*map(_background, images_in(clip)), strict=True)
        if len(set(aspects)) > 1:
            raise FrameError(f"{clip}: its frames differ in shape; all frames of a clip must have one size.")
        yield list(frames), aspects[0]


def _cutout(path: Path) -> Thing:
    rgba = read_rgba(path)
    _check_size(path, *rgba.shape[:2])
    alpha = rgba[..., 3]
    if alpha.min() >= OPAQUE:
        raise FrameError(
            f"{path} has no transparent pixel; expected a cut-out with alpha. Pack pictures with a background as "
            "photographs, and pictures with masks as an annotated dataset."
        )
    if (alpha >= OPAQUE).sum() < MIN_THING_SIDE**2:
        raise FrameError(f"{path} is transparent nearly everywhere; expected a cut-out. Remove it.")
    return _make_thing(rgba, SKIN_TONE.sub("", path.stem))


def _objects(source: Source) -> Iterator[Thing]:
    """The masked objects of annotated pictures, and of some frames of annotated videos."""
    footages, found = open_training_data(str(source.path), source.split), False
    for index in range(len(footages)):
        footage = footages[index]
        for frame in np.unique(np.linspace(0, len(footage) - 1, MAX_FRAMES).astype(int)).tolist():
            objects = list(footage.area_shares(frame))
            if not objects:
                continue
            (annotated,) = footage.read_frames([frame], objects, ANNOTATED_SIDE)
            height, width = annotated.masks.shape[1:]
            image = np.asarray(annotated.image.resize((width, height)))
            for mask in annotated.masks:
                left, top, right, bottom = _bounds(mask) if mask.any() else (0, 0, 0, 0)
                if min(right - left, bottom - top) >= MIN_THING_SIDE and not mask.all():
                    found = True
                    rgba = np.concatenate([image, 255 * mask[..., None].astype(np.uint8)], -1)
                    yield _make_thing(rgba, f"{source.path} {index}")
    if not found:
        raise FrameError(f"{source.path}: no object is at least {MIN_THING_SIDE} pixels wide and high.")


def _check_size(path: Path, height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise FrameError(f"{path} has {width}x{height} pixels; expected at least {MIN_SIDE}x{MIN_SIDE}. Remove it.")


def _make_thing(rgba: np.ndarray, name: str) -> Thing:
    """Crops a thing, resizes it to a texture, and fills the colours around it from its own."""
    from PIL import Image

    opaque = rgba[..., 3] >= OPAQUE
    box = _bounds(opaque)
    inner = THING_SIDE - 2 * MARGIN
    image = Image.fromarray(rgba).convert("RGBa").resize((inner, inner), Image.Resampling.BILINEAR, box).convert("RGBA")
    texture = np.pad(np.asarray(image), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))
    alpha = texture[..., 3].astype(np.float32) / 255
    colors = _spread(texture[..., :3].astype(np.float32), alpha)
    colors = np.where(texture[..., 3:] >= OPAQUE, texture[..., :3], np.round(colors).astype(np.uint8))
    radius = np.sqrt(opaque.sum() / np.pi)
    scale = THING_SIDE / inner / 2 / radius
    size = float((box[2] - box[0]) * scale), float((box[3] - box[1]) * scale)
    return Thing(np.concatenate([colors, texture[..., 3:]], -1), size, name)


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The first column and row of a mask that is not empty, and the ones after the last."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _spread(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Continues colours [n, n, 3] to where alpha is 0, from averages of 2, 4, 8, ... pixels; n is a power of two."""
    side = len(alpha)
    if side == 1:
        return colors
    blocks = (side // 2, 2, side // 2, 2)
    weight = alpha.reshape(blocks).sum((1, 3))
    total = (colors * alpha[..., None]).reshape(*blocks, 3).sum((1, 3))
    coarse = _spread(total / np.maximum(weight, 1e-6)[..., None], np.minimum(weight, 1))
    return alpha[..., None] * colors + (1 - alpha[..., None]) * coarse.repeat(2, 0).repeat(2, 1)
