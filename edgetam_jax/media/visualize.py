"""Pictures of masks and prompts: arrays in, arrays out, uint8 RGB.

    picture = overlay(frame, mask_logits > 0, obj_ids=obj_ids)
    picture = draw_prompts(picture, points=[[210, 350]], labels=[1])
    sheet = contact_sheet(pictures, [f"frame {t}" for t in frames])

Colours belong to object ids, so that objects keep theirs over a video. Lines and markers grow with the image; `width`,
in pixels, overrides that.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.media.palette import check_masks, object_colors
from edgetam_jax.ops.pixels import as_image
from edgetam_jax.ops.points import check_points
from edgetam_jax.types import Label

POSITIVE, NEGATIVE, BOX = (0, 168, 88), (214, 30, 30), (255, 255, 255)
HALO = 0.55  # how dark it is around lines
BACKGROUND, TEXT = (24, 24, 27), (228, 228, 231)


def overlay(
    image: Any,
    masks: ArrayLike,
    colors: ArrayLike | None = None,
    alpha: float = 0.5,
    contours: bool = True,
    *,
    obj_ids: Sequence[int] | None = None,
    width: int | None = None,
) -> np.ndarray:
    """The image under masks [O, H, W] (or [O, 1, H, W], [H, W]) of 0 and 1, the later objects on top.

    `colors` [O, 3] replace those of `obj_ids`, which are 0, 1, ... if not given.
    """
    picture, layers = _checked(image, masks)
    if not 0 <= alpha <= 1:
        raise PromptError(f"alpha is {alpha}; expected 0 (only contours) to 1 (masks hide the image).")
    chosen = _colors(colors, obj_ids, len(layers))
    plain = Image.fromarray(picture)
    tinted = plain.copy()
    for mask, color in zip(layers, chosen, strict=True):
        layer = Image.fromarray(mask)
        if (box := layer.getbbox()) is not None:
            table = _mixed(np.arange(256), color[:, None], alpha)
            tinted.paste(plain.crop(box).point(table.ravel().tolist()), box, layer.crop(box))
    picture = np.array(tinted)
    if contours:
        _draw_contours(picture, layers, chosen, _line(picture, width))
    return picture


def draw_contours(
    image: Any,
    masks: ArrayLike,
    colors: ArrayLike | None = None,
    *,
    obj_ids: Sequence[int] | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Outlines of masks, given as to `overlay`: a line along each border, on a slightly wider dark one."""
    picture, layers = _checked(image, masks)
    _draw_contours(picture, layers, _colors(colors, obj_ids, len(layers)), _line(picture, width))
    return picture


def _draw_contours(picture: np.ndarray, layers: np.ndarray, colors: np.ndarray, line: int) -> None:
    halo = max(1.0, line / 2)
    for mask, color in zip(layers, colors, strict=True):
        rows, columns, depth = _depth(mask, line + halo + 1)
        # Odd lines have their middle on the border's inner pixels, so that level ones are sharp.
        away = np.abs(depth + (line % 2) / 2)
        painted = away < line / 2 + halo + 0.5
        rows, columns, away = rows[painted], columns[painted], away[painted]
        here = picture[rows, columns]
        here = _mixed(here, 0, HALO * np.clip(line / 2 + halo + 0.5 - away, 0, 1)[:, None])
        picture[rows, columns] = _mixed(here, color, np.clip(line / 2 + 0.5 - away, 0, 1)[:, None])


def draw_prompts(
    image: Any,
    points: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    box: ArrayLike | None = None,
    *,
    color: ArrayLike | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Clicks and a box: green discs with a plus on the object, red diamonds with a minus off it.

    `color` is that of the box, white if not given. What is outside of the image is cut off.
    """
    picture = _image(image)
    xy, kinds = check_points(points, labels, box)
    line = _line(picture, width)
    if box is not None:
        _draw_box(picture, xy[0], xy[1], _colors(BOX if color is None else color, None, 1)[0], line)
        xy, kinds = xy[2:], kinds[2:]
    for (x, y), kind in zip(xy, kinds, strict=True):
        _draw_marker(picture, x, y, kind == Label.POSITIVE, 4 * line + 2)
    return picture


def contact_sheet(
    images: Sequence[Any], titles: Sequence[str] | None = None, columns: int | None = None, *, width: int = 1600
) -> np.ndarray:
    """Images of one size in rows, each under its title, on a sheet of at most `width` pixels across."""
    tiles = [_image(image) for image in images]
    if not tiles:
        raise FrameError("there are no images; expected at least one.")
    for index, tile in enumerate(tiles):
        if tile.shape != tiles[0].shape:
            raise FrameError(
                f"image {index} is {tile.shape[1]}x{tile.shape[0]} (width x height), image 0 is "
                f"{tiles[0].shape[1]}x{tiles[0].shape[0]}; all must have one size."
            )
    if titles is not None and len(titles) != len(tiles):
        raise FrameError(f"there are {len(titles)} titles and {len(tiles)} images; expected as many of each.")
    height, across = tiles[0].shape[:2]
    columns = min(len(tiles), int(np.ceil(np.sqrt(len(tiles)))) if columns is None else columns)
    gap = max(1, round(min(width, columns * across) / 120))
    room = (width - gap) // max(columns, 1) - gap
    if columns < 1 or room < 1:
        raise FrameError(f"{columns} columns in {width} pixels are not possible; give at least one, and room for it.")
    size = min(across, room), max(1, round(height * min(across, room) / across))
    letters = int(np.clip(0.045 * size[0], 11, 24))
    font = ImageFont.load_default(letters)
    caption = 0 if titles is None else round(1.7 * letters)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (size[0] + gap) + gap, rows * (size[1] + caption + gap) + gap), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        left, top = gap + column * (size[0] + gap), gap + row * (size[1] + caption + gap)
        if titles is not None:
            draw.text((left, top + caption / 2), _shortened(titles[index], font, size[0]), TEXT, font, anchor="lm")
        sheet.paste(Image.fromarray(tile).resize(size, Image.Resampling.LANCZOS), (left, top + caption))
    return np.array(sheet)


def _shortened(text: str, font: Any, room: float) -> str:
    """As much of a text as there is room for."""
    short = text
    while short and font.getlength(short) > room:
        text = text[:-1]
        short = text.rstrip() + "\N{HORIZONTAL ELLIPSIS}"
        if not text:
            return ""
    return short


def _image(image: Any) -> np.ndarray:
    """A copy to paint on."""
    return np.array(as_image(image))


def _checked(image: Any, masks: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    picture, layers = _image(image), check_masks(masks)
    if layers.shape[1:] != picture.shape[:2]:
        raise PromptError(
            f"the masks are {layers.shape[1:]}, the image is {picture.shape[:2]} (height, width); "
            "resize their logits to the image first, see edgetam_jax.ops.resize.resize_logits."
        )
    return picture, layers


def _colors(colors: ArrayLike | None, obj_ids: Sequence[int] | None, count: int) -> np.ndarray:
    if colors is None:
        chosen = object_colors(range(count) if obj_ids is None else obj_ids)
    else:
        chosen = np.asarray(colors)
        chosen = np.broadcast_to(chosen, (count, 3)) if chosen.shape == (3,) else chosen
    if chosen.shape != (count, 3):
        what = f"colours have shape {chosen.shape}" if colors is not None else f"there are {len(chosen)} object ids"
        raise PromptError(f"{what} for {count} masks; expected one for each.")
    if not ((chosen >= 0) & (chosen <= 255)).all():
        raise PromptError(f"colours are {chosen.tolist()}; expected red, green and blue from 0 to 255.")
    return chosen


def _line(picture: np.ndarray, width: int | None) -> int:
    if width is not None and width < 1:
        raise PromptError(f"width is {width}; expected at least one pixel.")
    return max(1, round(min(picture.shape[:2]) / 360 if width is None else width))


def _mixed(under: np.ndarray, color: Any, share: Any) -> np.ndarray:
    return np.round(under * (1 - share) + np.asarray(color, float) * share).astype(np.uint8)


def _depth(mask: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the pixels near a mask's border, and how far they are from it: negative inside.

    Smoothed a little, which makes lines of stairs. The border of the image is none of the mask.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return rows, rows, np.zeros(0)
    radius = int(np.ceil(reach)) + 1
    top, left = max(rows[0] - radius, 0), max(columns[0] - radius, 0)
    here = np.pad(mask[top : rows[-1] + radius + 1, left : columns[-1] + radius + 1], 2 * radius, mode="edge")
    codes, depths = _signed(here, radius)
    inside = codes[2 * radius : -2 * radius, 2 * radius : -2 * radius]
    rows, columns = np.nonzero((inside != 0) & (inside != len(depths) // 2))
    depth = _smoothed(codes.ravel(), depths, (rows + 2 * radius) * here.shape[1] + columns + 2 * radius, here.shape[1])
    near = np.abs(depth) <= reach
    return rows[near] + top, columns[near] + left, depth[near]


def _signed(mask: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's code, and the depth that a code stands for. The first code of either side is for what is far."""
    steps = np.arange(-radius, radius + 1)
    far = np.hypot(*np.meshgrid(steps, steps, indexing="ij"))
    distances = np.unique(np.append(radius, far[far < radius]))[::-1]
    count = len(distances)
    # A plane for the distance to the nearest pixel inside, and one to the nearest outside.
    codes = np.zeros((2, *mask.shape), np.min_scalar_type(2 * count))
    touched, flat = _edge(mask, radius), codes.reshape(-1)
    edges = np.concatenate([np.flatnonzero(touched & mask), np.flatnonzero(touched & ~mask) + mask.size])
    for i, j in np.argwhere(far < radius)[np.argsort(-far[far < radius], kind="stable")]:  # the nearest come last
        flat[edges + (steps[i] * mask.shape[1] + steps[j])] = np.searchsorted(-distances, -far[i, j])
    return np.where(mask, codes[1] + codes.dtype.type(count), codes[0]), np.append(distances - 0.5, 0.5 - distances)


def _edge(mask: np.ndarray, margin: int) -> np.ndarray:
    """Pixels that have a neighbour on the other side, but for those at the margin."""
    touched = np.zeros_like(mask)
    for pixels, marked in ((mask, touched), (mask.T, touched.T)):
        differs = pixels[1:] != pixels[:-1]
        marked[1:] |= differs
        marked[:-1] |= differs
    touched[:margin] = touched[-margin:] = touched[:, :margin] = touched[:, -margin:] = False
    return touched


def _smoothed(codes: np.ndarray, depths: np.ndarray, at: np.ndarray, width: int) -> np.ndarray:
    """Depths at some pixels, weighed with those around: a quarter, a half and a quarter along either axis."""
    columns = []
    for column in (-1, 0, 1):
        above, here, below = (depths[codes[at + (row * width + column)]] for row in (-1, 0, 1))
        columns.append(0.25 * above + 0.5 * here + 0.25 * below)
    return 0.25 * columns[0] + 0.5 * columns[1] + 0.25 * columns[2]


def _patch(picture: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of the picture between two corners (x, y), a view, with the coordinates x and y of its pixels."""
    left, top = np.maximum(np.floor(low), 0).astype(int)
    right, bottom = np.maximum(np.ceil(high) + 1, 0).astype(int)
    part = picture[top:bottom, left:right]
    return part, left + np.arange(part.shape[1]), top + np.arange(part.shape[0])[:, None]


def _paint(part: np.ndarray, color: Any, outside: np.ndarray, share: float = 1.0) -> None:
    """Fills where a signed distance is negative, with a smooth border."""
    part[:] = _mixed(part, color, (share * np.clip(0.5 - outside, 0, 1))[..., None])


def _draw_box(picture: np.ndarray, low: np.ndarray, high: np.ndarray, color: np.ndarray, line: int) -> None:
    halo = max(1.0, line / 2)
    low, high = (np.round(corner) - (1 - line % 2) / 2 for corner in (low, high))
    part, x, y = _patch(picture, low - line - halo - 1, high + line + halo + 1)
    beside_x, beside_y = np.maximum(low[0] - x, x - high[0]), np.maximum(low[1] - y, y - high[1])
    border = np.hypot(np.maximum(beside_x, 0), np.maximum(beside_y, 0)) + np.minimum(np.maximum(beside_x, beside_y), 0)
    _paint(part, 0, np.abs(border) - line / 2 - halo, HALO)
    _paint(part, color, np.abs(border) - line / 2)


def _draw_marker(picture: np.ndarray, x: float, y: float, positive: bool, radius: float) -> None:
    middle = np.array([x, y])
    part, columns, rows = _patch(picture, middle - 2 * radius, middle + 2 * radius)
    across, down = np.abs(columns - x), np.abs(rows - y)
    shape = np.hypot(across, down) - radius if positive else (across + down) / np.sqrt(2) - 0.9 * radius
    rim, bar = max(1.3, 0.2 * radius), 0.14 * radius
    _paint(part, 0, shape - max(1.0, 0.12 * radius), HALO)
    _paint(part, 255, shape)
    _paint(part, POSITIVE if positive else NEGATIVE, shape + rim)
    _paint(part, 255, np.maximum(across - 0.5 * radius, down - bar))
    if positive:
        _paint(part, 255, np.maximum(across - bar, down - 0.5 * radius))
