"""Pictures of masks and prompts: arrays in, arrays out, uint8 RGB.

    picture = overlay(frame, mask_logits > 0, obj_ids=obj_ids)
    picture = draw_prompts(picture, points=[[210, 350]], labels=[1])
    sheet = contact_sheet(pictures, [f"frame {t}" for t in frames])

Colours belong to object ids, so that an object has the same colour on all frames. Lines and markers grow with the
image, unless `width` is given.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.media.contours import HALO_OPACITY, paint_contours
from edgetam_jax.media.palette import check_masks, object_colors
from edgetam_jax.ops.pixels import as_image
from edgetam_jax.ops.points import check_points
from edgetam_jax.types import Label

POSITIVE, NEGATIVE, WHITE = (0, 168, 88), (214, 30, 30), (255, 255, 255)
HALO = (0, 0, 0, round(255 * HALO_OPACITY))
BACKGROUND, TEXT = (24, 24, 27), (228, 228, 231)
MARKER_SCALE = 8  # markers are drawn this much larger and then reduced, which smooths their borders


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
    """Draws masks on an image, in the colours of their objects.

    Args:
        image: PIL image or array [H, W, 3] or [H, W], see `ops.pixels.as_image`.
        masks: [O, H, W], [O, 1, H, W] or [H, W] of bool, or of 0 and 1. Where they overlap, the last is seen.
        colors: [O, 3], or one colour [3] for all, values from 0 to 255. By default those of `obj_ids`.
        alpha: Opacity of the masks, from 0 (only contours) to 1.
        contours: Draw a line along the border of each mask.
        obj_ids: O ids that choose the colours, see `palette.object_colors`. By default 0, 1, ...
        width: Width of the contours in pixels. By default 1/360 of the image's shorter side.

    Returns:
        [H, W, 3] uint8. The image itself is not changed.

    Raises:
        FrameError: `image` is not an image.
        PromptError: The masks or colours do not fit the image, or a value is out of range.
    """
    picture, mask_arrays = _check_image_and_masks(image, masks)
    if not 0 <= alpha <= 1:
        raise PromptError(f"alpha is {alpha}; expected 0 (only contours) to 1 (masks hide the image).")
    mask_colors = _check_colors(colors, obj_ids, len(mask_arrays))
    plain = Image.fromarray(picture)
    tinted = plain.copy()
    for mask, color in zip(mask_arrays, mask_colors, strict=True):
        layer = Image.fromarray(mask)
        if (box := layer.getbbox()) is not None:
            # Blending depends on a pixel's value only, so it is a table for each channel.
            table = np.round(np.arange(256) * (1 - alpha) + color[:, None] * alpha).astype(int)
            tinted.paste(plain.crop(box).point(table.ravel().tolist()), box, layer.crop(box))
    picture = np.array(tinted)
    if contours:
        paint_contours(picture, mask_arrays, mask_colors, _line_width(picture, width))
    return picture


def draw_contours(
    image: Any,
    masks: ArrayLike,
    colors: ArrayLike | None = None,
    *,
    obj_ids: Sequence[int] | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Draws a line along the border of each mask, on a slightly wider dark one.

    Args:
        image: PIL image or array [H, W, 3] or [H, W], see `ops.pixels.as_image`.
        masks: [O, H, W], [O, 1, H, W] or [H, W] of bool, or of 0 and 1. Lines of later masks are on top.
        colors: [O, 3], or one colour [3] for all, values from 0 to 255. By default those of `obj_ids`.
        obj_ids: O ids that choose the colours, see `palette.object_colors`. By default 0, 1, ...
        width: Width of the lines in pixels. By default 1/360 of the image's shorter side.

    Returns:
        [H, W, 3] uint8. The image itself is not changed.

    Raises:
        FrameError: `image` is not an image.
        PromptError: The masks or colours do not fit the image, or a value is out of range.
    """
    picture, mask_arrays = _check_image_and_masks(image, masks)
    mask_colors = _check_colors(colors, obj_ids, len(mask_arrays))
    paint_contours(picture, mask_arrays, mask_colors, _line_width(picture, width))
    return picture


def draw_prompts(
    image: Any,
    points: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    box: ArrayLike | None = None,
    *,
    color: ArrayLike | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Draws a box, positive clicks as green discs with a plus, and negative ones as red diamonds with a minus.

    Args:
        image: PIL image or array [H, W, 3] or [H, W], see `ops.pixels.as_image`.
        points: [P, 2] clicks (x, y) in pixels. Those outside the image are cut off.
        labels: [P], 1 for clicks on the object and 0 for others.
        box: [4] corners (x0, y0, x1, y1) in pixels.
        color: Colour [3] of the box, values from 0 to 255. By default white.
        width: Width of the box's lines in pixels, to which markers are proportional. By default 1/360 of the image's
            shorter side.

    Returns:
        [H, W, 3] uint8. The image itself is not changed.

    Raises:
        FrameError: `image` is not an image.
        PromptError: There are neither points nor a box, or they, the labels or the colour are malformed.
    """
    picture = Image.fromarray(_as_array(image))
    coordinates, kinds = check_points(points, labels, box)
    line = _line_width(np.asarray(picture), width)
    if box is not None:
        box_color = _check_colors(WHITE if color is None else color, None, 1)[0]
        _draw_box(picture, coordinates[0], coordinates[1], tuple(box_color.tolist()), line)
        coordinates, kinds = coordinates[2:], kinds[2:]
    for (x, y), kind in zip(coordinates, kinds, strict=True):
        _draw_marker(picture, x, y, kind == Label.POSITIVE, 4 * line + 2)
    return np.array(picture)


def contact_sheet(
    images: Sequence[Any], titles: Sequence[str] | None = None, columns: int | None = None, *, width: int = 1600
) -> np.ndarray:
    """Arranges images in rows and columns.

    Args:
        images: PIL images or arrays of one size, see `ops.pixels.as_image`.
        titles: A text above each image. What does not fit is cut off. By default none.
        columns: Number of columns. By default about as many as rows.
        width: Maximal width of the sheet in pixels, for which images are made smaller.

    Returns:
        [sheet height, sheet width, 3] uint8.

    Raises:
        FrameError: There are no images, they differ in size, their number is not that of the titles, or there is
            no room for the columns.
    """
    tiles = [_as_array(image) for image in images]
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
    tile_height, tile_width = tiles[0].shape[:2]
    columns = min(len(tiles), int(np.ceil(np.sqrt(len(tiles)))) if columns is None else columns)
    gap = max(1, round(min(width, columns * tile_width) / 120))
    available = (width - gap) // max(columns, 1) - gap
    if columns < 1 or available < 1:
        raise FrameError(f"{columns} columns in {width} pixels are not possible; give at least one, and room for it.")
    size = min(tile_width, available), max(1, round(tile_height * min(tile_width, available) / tile_width))
    font_size = int(np.clip(0.045 * size[0], 11, 24))
    font = ImageFont.load_default(font_size)
    title_height = 0 if titles is None else round(1.7 * font_size)
    rows = -(-len(tiles) // columns)
    sheet_size = columns * (size[0] + gap) + gap, rows * (size[1] + title_height + gap) + gap
    sheet = Image.new("RGB", sheet_size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        left, top = gap + column * (size[0] + gap), gap + row * (size[1] + title_height + gap)
        if titles is not None:
            title = _shortened(titles[index], font, size[0])
            draw.text((left, top + title_height / 2), title, TEXT, font, anchor="lm")
        sheet.paste(Image.fromarray(tile).resize(size, Image.Resampling.LANCZOS), (left, top + title_height))
    return np.array(sheet)


def _shortened(text: str, font: Any, width: float) -> str:
    """As much of a text as fits into `width` pixels."""
    short = text
    while short and font.getlength(short) > width:
        text = text[:-1]
        short = text.rstrip() + "\N{HORIZONTAL ELLIPSIS}"
        if not text:
            return ""
    return short


def _as_array(image: Any) -> np.ndarray:
    """A copy that may be changed."""
    return np.array(as_image(image))


def _check_image_and_masks(image: Any, masks: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    picture, mask_arrays = _as_array(image), check_masks(masks)
    if mask_arrays.shape[1:] != picture.shape[:2]:
        raise PromptError(
            f"the masks are {mask_arrays.shape[1:]}, the image is {picture.shape[:2]} (height, width); "
            "resize their logits to the image first, see edgetam_jax.ops.resize.resize_logits."
        )
    return picture, mask_arrays


def _check_colors(colors: ArrayLike | None, obj_ids: Sequence[int] | None, count: int) -> np.ndarray:
    """[count, 3] uint8."""
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
    return np.round(chosen).astype(np.uint8)


def _line_width(picture: np.ndarray, width: int | None) -> int:
    if width is not None and width < 1:
        raise PromptError(f"width is {width}; expected at least one pixel.")
    return max(1, round(min(picture.shape[:2]) / 360 if width is None else width))


def _draw_box(picture: Image.Image, low: np.ndarray, high: np.ndarray, color: tuple[int, int, int], line: int) -> None:
    """A line of `line` pixels centred on the box's border, over a dark one that is wider on both sides."""
    halo = max(1, line // 2)
    left, top = (round(float(value)) - line // 2 for value in low)
    right, bottom = (round(float(value)) + (line - 1) // 2 for value in high)
    draw = ImageDraw.Draw(picture, "RGBA")
    outer = left - halo, top - halo, right + halo, bottom + halo
    draw.rounded_rectangle(outer, radius=halo, outline=HALO, width=line + 2 * halo)
    draw.rectangle((left, top, right, bottom), outline=color, width=line)


def _draw_marker(picture: Image.Image, x: float, y: float, positive: bool, radius: float) -> None:
    """A disc with a plus or a diamond with a minus, with a white rim and a dark halo."""
    side = 2 * int(np.ceil(2 * radius)) + 1
    left, top = int(np.floor(x)) - side // 2, int(np.floor(y)) - side // 2
    center = [round(MARKER_SCALE * (value + 0.5)) for value in (x - left, y - top)]
    tile = Image.new("RGBA", (MARKER_SCALE * side, MARKER_SCALE * side))
    draw = ImageDraw.Draw(tile)
    draw_shape, rim = _draw_disc if positive else _draw_diamond, max(1.3, 0.2 * radius)
    for grow, color in ((max(1.0, 0.12 * radius), HALO), (0.0, WHITE), (-rim, POSITIVE if positive else NEGATIVE)):
        draw_shape(draw, center, radius, grow, color)
    long, short = round(MARKER_SCALE * 0.5 * radius), round(MARKER_SCALE * 0.14 * radius)
    for across, down in ((long, short), (short, long)) if positive else ((long, short),):
        draw.rectangle((center[0] - across, center[1] - down, center[0] + across - 1, center[1] + down - 1), fill=WHITE)
    tile = tile.reduce(MARKER_SCALE)
    picture.paste(tile, (left, top), tile)


def _draw_disc(draw: ImageDraw.ImageDraw, center: Sequence[int], radius: float, grow: float, color: Any) -> None:
    x, y = center
    r = round(MARKER_SCALE * (radius + grow))
    draw.ellipse((x - r, y - r, x + r - 1, y + r - 1), fill=color)


def _draw_diamond(draw: ImageDraw.ImageDraw, center: Sequence[int], radius: float, grow: float, color: Any) -> None:
    x, y = center
    r = round(MARKER_SCALE * np.sqrt(2) * (0.9 * radius + grow))
    # Both pixels around the centre at each tip, because the centre is between pixels.
    tips = [(x - 1, y - r), (x, y - r), (x + r - 1, y - 1), (x + r - 1, y)]
    draw.polygon([*tips, *((2 * x - 1 - a, 2 * y - 1 - b) for a, b in tips)], fill=color)
