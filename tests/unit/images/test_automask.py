"""The mask generator: crops and points, measured masks, memory use, and errors for wrong settings."""

import gc
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from edgetam_jax.errors import EdgeTAMError, FrameError, PromptError
from edgetam_jax.images import automask_jit
from edgetam_jax.images.automask import AutomaticMaskGenerator
from edgetam_jax.images.crops import Crop, build_point_grids, check_point_grids, make_crops, near_crop_edge
from edgetam_jax.model import Model
from edgetam_jax.ops.boxes import boxes_around
from edgetam_jax.ops.masks import clean_mask, component_areas
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.ops.rle import counts_of_edges, rle_decode, rle_encode
from tests.support.tolerances import FLIPPED_PIXELS, IOU_ATOL

SIZE = 240, 320
# Thresholds that some masks of a random network pass, and some do not.
SOME = {
    "points_per_side": 5,
    "points_per_batch": 16,
    "pred_iou_thresh": 0.6,
    "stability_score_thresh": 0.01,
    "mask_threshold": 20.0,
    "output_mode": "uncompressed_rle",
}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def records(model: Model, picture: np.ndarray) -> list[dict[str, Any]]:
    records = AutomaticMaskGenerator(model, **SOME).generate(picture)
    assert 2 < len(records) < 60
    return records


def test_make_crops() -> None:
    crops = make_crops((1200, 1800), 2, 512 / 1500)
    assert [crop.box for crop in crops[:5]] == [
        (0, 0, 1800, 1200),
        (0, 0, 1105, 805),
        (0, 396, 1105, 1200),
        (696, 0, 1800, 805),
        (696, 396, 1800, 1200),
    ]
    assert [crop.layer for crop in crops] == [0] + 4 * [1] + 16 * [2]
    covered = np.zeros((1200, 1800), int)
    for crop in crops[5:]:
        covered[crop.y0 : crop.y1, crop.x0 : crop.x1] += 1
    assert covered.min() == 1 and covered.max() == 4
    assert [crop.size for crop in make_crops((1200, 1800), 0, 0.5)] == [(1200, 1800)]


def test_more_crops_than_pixels() -> None:
    assert len(make_crops((8, 8), 3, 0.0)) == 1 + 4 + 16 + 64
    with pytest.raises(FrameError, match="9x5 pixels, too few for crop_n_layers=3"):
        make_crops((5, 9), 3, 0.0)


def test_point_grids() -> None:
    grids = build_point_grids(4, 2, 2)
    assert [len(grid) for grid in grids] == [16, 4, 1]
    assert grids[1].tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert grids[0][1].tolist() == [0.375, 0.125]  # along the width first


def test_boxes_near_the_edge_of_a_crop() -> None:
    crop, size = Crop(100, 0, 300, 200, 1), (200, 400)
    boxes = {
        (150, 50, 250, 150): False,
        (120, 50, 250, 150): True,  # 20 pixels from the left edge
        (121, 50, 250, 150): False,
        (150, 50, 280, 150): True,
        (150, 0, 250, 199): False,  # the image ends there too
        (100, 0, 299, 199): True,
    }
    assert near_crop_edge(np.array(list(boxes)), crop, size).tolist() == list(boxes.values())
    assert not near_crop_edge(np.array(list(boxes)), Crop(0, 0, 400, 200, 0), size).any()


@pytest.mark.parametrize(("size", "clean"), [((50, 91), 0), ((120, 7), 0), ((20, 33), 5)])
def test_upsampled_masks(size: tuple[int, int], clean: int) -> None:
    """Against the same in plain steps, with padding around the masks and one row of the batch not used."""
    coarse = jax.random.normal(jax.random.key(0), (2, 3, 6, 6))
    noise = jax.random.normal(jax.random.key(1), (2, 3, 32, 32))
    logits = 8 * jax.image.resize(coarse, noise.shape, "cubic") + 4 * noise
    logits = logits.at[1, 0].set(-9.0).at[1, 1].set(9.0)
    indices, used, threshold, offset = np.array([4, 1, 3, 5, 0]), np.array([1, 1, 1, 1, 0], bool), 0.5, 1.5
    crop = Crop(3, 4, 3 + size[1], 4 + size[0], 1)
    upsampling = automask_jit.make_upsampling(32, crop, (size[0] + 4, size[1] + 2))
    levels = np.float32([threshold - offset, threshold, threshold + offset])
    stability, boxes, edges = automask_jit.upsample_and_measure(
        logits, indices, used, upsampling, levels, (clean, threshold), vectorize=False
    )
    masks = logits.reshape(6, 32, 32)[indices]
    if clean:
        areas = component_areas(masks > threshold)
        assert ((areas > 0) & (areas <= clean)).any()
        masks = clean_mask(masks, clean, clean, threshold)
    large = np.asarray(resize_logits(masks, size))
    want, inside = large > threshold, (size[0] + 9, size[1] + 8)
    np.testing.assert_array_equal(boxes[:4], boxes_around(jnp.asarray(want))[:4])
    for i in range(4):
        inner, outer = (large[i] > threshold + offset).sum(), (large[i] > threshold - offset).sum()
        assert float(stability[i]) == pytest.approx(inner / max(outer, 1), abs=1e-6)
        whole = np.zeros(inside, bool)
        whole[4 : 4 + size[0], 3 : 3 + size[1]] = want[i]
        assert counts_of_edges(np.asarray(edges[i]), (3, 4), inside).tolist() == rle_encode(whole)["counts"]
    assert want[:3].any() and not want[:3].all() and not want[2].any()  # one of them is empty
    assert not np.asarray(edges[4]).any() and boxes[4].tolist() == [0, 0, 0, 0]


def test_records(model: Model, picture: np.ndarray, records: list[dict[str, Any]]) -> None:
    ious = [record["predicted_iou"] for record in records]
    assert ious == sorted(ious, reverse=True)
    json.dumps(records)
    bitmaps = AutomaticMaskGenerator(model, **SOME | {"output_mode": "binary_mask"}).generate(picture)
    texts = AutomaticMaskGenerator(model, **SOME | {"output_mode": "coco_rle"}).generate(picture)
    for plain, bitmap, text in zip(records, bitmaps, texts, strict=True):
        mask = rle_decode(plain["segmentation"])
        np.testing.assert_array_equal(bitmap.pop("segmentation"), mask)
        np.testing.assert_array_equal(rle_decode(text.pop("segmentation")), mask)
        assert bitmap == text == {key: value for key, value in plain.items() if key != "segmentation"}
        x0, y0, x1, y1 = np.asarray(boxes_around(jnp.asarray(mask))).tolist()
        assert plain["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert plain["area"] == mask.sum()
        assert plain["crop_box"] == [0, 0, *SIZE[::-1]]
        (x, y) = plain["point_coords"][0]
        assert 0 < x < SIZE[1] and 0 < y < SIZE[0]


def test_the_batch_size_does_not_matter(model: Model, picture: np.ndarray, records: list[dict[str, Any]]) -> None:
    other = AutomaticMaskGenerator(model, **SOME | {"points_per_batch": 7}).generate(picture)
    assert [record["segmentation"] for record in other] == [record["segmentation"] for record in records]


def test_vectorized_points(model: Model, picture: np.ndarray, records: list[dict[str, Any]]) -> None:
    """As by default on other platforms than CPU."""
    vectorized = AutomaticMaskGenerator(model, **SOME | {"points_per_batch": 13}, vectorize=True).generate(picture)
    for got, want in zip(vectorized, records, strict=True):
        assert (got["point_coords"], got["bbox"]) == (want["point_coords"], want["bbox"])
        assert abs(got["predicted_iou"] - want["predicted_iou"]) <= IOU_ATOL
        assert abs(got["area"] - want["area"]) <= FLIPPED_PIXELS


def test_kinds_of_images(model: Model, picture: np.ndarray, records: list[dict[str, Any]]) -> None:
    generator = AutomaticMaskGenerator(model, **SOME)
    for same in (Image.fromarray(picture), picture.astype(np.float32) / 255, jnp.asarray(picture)):
        assert generator.generate(same) == records
    gray = np.repeat(picture[..., :1], 3, -1)
    assert generator.generate(picture[..., 0]) == generator.generate(gray)


def test_stability_at_its_threshold(model: Model) -> None:
    scores = np.array([0.95, 0.9500001, 0.94, 0.0], np.float32)
    generator = AutomaticMaskGenerator(model)
    assert generator._is_stable(scores).tolist() == [True, True, False, False]
    assert AutomaticMaskGenerator(model, filters="hf")._is_stable(scores).tolist() == [False, True, False, False]
    assert AutomaticMaskGenerator(model, stability_score_thresh=0.0)._is_stable(scores).all()


def test_no_masks(model: Model, picture: np.ndarray) -> None:
    for layers in (0, 1):
        generator = AutomaticMaskGenerator(model, **SOME | {"pred_iou_thresh": 1.0}, crop_n_layers=layers)
        assert generator.generate(picture) == []


def test_device_memory_does_not_grow_with_the_points(
    model: Model, picture: np.ndarray, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    upsample, live = automask_jit.upsample_and_measure, []

    def counted(*args: Any) -> Any:
        live.append(sum(array.nbytes for array in jax.live_arrays()))
        return upsample(*args)

    monkeypatch.setattr(automask_jit, "upsample_and_measure", counted)
    programs_before = automask_jit.predict_points._cache_size(), upsample._cache_size()
    others = jax.live_arrays()  # held, so that arrays of other tests are not freed meanwhile
    peaks = []
    for side in (5, 15):
        gc.collect()
        live.clear()
        AutomaticMaskGenerator(model, **SOME | {"points_per_side": side}).generate(picture)
        peaks.append(max(live))
        assert len(live) > side**2 / 16
    assert sum(array.nbytes for array in others) < peaks[1] <= peaks[0]
    assert (automask_jit.predict_points._cache_size(), upsample._cache_size()) == programs_before


def test_memory_to_upsample_masks() -> None:
    """For an image of 1800x1200 at full size, the results included."""
    crop = Crop(0, 0, 1800, 1200, 0)
    upsampling = automask_jit.make_upsampling(256, crop, automask_jit.padded_size([crop]))
    count = 16
    masks = jax.ShapeDtypeStruct((64, 3, 256, 256), jnp.float32)
    levels = np.zeros(3, np.float32)
    compiled = automask_jit.upsample_and_measure.lower(
        masks, np.zeros(count, int), np.ones(count, bool), upsampling, levels, (0, 0.0), False
    ).compile()
    used = compiled.memory_analysis()
    assert used is not None
    assert used.temp_size_in_bytes + used.output_size_in_bytes < 100e6


def test_progress(model: Model, picture: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    AutomaticMaskGenerator(model, **SOME).generate(picture)
    assert capsys.readouterr() == ("", "")
    AutomaticMaskGenerator(model, **SOME, progress=True).generate(picture)
    out, lines = capsys.readouterr()
    assert not out
    last = lines.strip("\r\n").split("\r")[-1]
    assert "100%" in last and "25/25" in last and "masks=" in last


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points_per_side": None}, "neither of points_per_side and point_grids"),
        ({"point_grids": [np.full((1, 2), 0.5)]}, "both of points_per_side and point_grids"),
        ({"points_per_side": 0}, "points_per_side is 0; expected an integer from 1"),
        ({"points_per_side": 4.0}, "points_per_side is 4.0"),
        ({"points_per_side": 3, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2}, "no point in crop layer 2"),
        ({"points_per_batch": 0}, "points_per_batch is 0"),
        ({"pred_iou_thresh": 1.2}, "pred_iou_thresh is 1.2; expected a finite number in 0 to 1"),
        ({"pred_iou_thresh": float("nan")}, "pred_iou_thresh is nan"),
        ({"stability_score_thresh": 95}, "stability_score_thresh is 95"),
        ({"stability_score_offset": -1.0}, "stability_score_offset is -1.0"),
        ({"mask_threshold": float("inf")}, "mask_threshold is inf"),
        ({"mask_threshold": "0"}, "mask_threshold is '0'"),
        ({"box_nms_thresh": -0.1}, "box_nms_thresh is -0.1"),
        ({"crop_nms_thresh": 7}, "crop_nms_thresh is 7"),
        ({"crop_n_layers": -1}, "crop_n_layers is -1; expected an integer from 0"),
        ({"crop_overlap_ratio": 1.5}, "crop_overlap_ratio is 1.5"),
        ({"crop_n_points_downscale_factor": 0}, "crop_n_points_downscale_factor is 0"),
        ({"min_mask_region_area": -5}, "min_mask_region_area is -5"),
        ({"output_mode": "rle"}, "output_mode is 'rle'; expected one of \\('binary_mask'"),
        ({"filters": "sam"}, "filters is 'sam'; expected one of \\('sam2', 'hf'\\)"),
        ({"preprocess": "pil"}, "preprocess is 'pil'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str, model: Model) -> None:
    with pytest.raises(PromptError, match=message):
        AutomaticMaskGenerator(model, **settings)


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        ([np.zeros((3, 2))], "holds 1 grids; expected one for each of the 2 crop layers"),
        (np.zeros((2, 3, 2)), "holds no list of grids"),
        ([np.zeros((3, 2)), np.zeros((3, 3))], r"point_grids\[1\] is float64 \(3, 3\)"),
        ([np.zeros((0, 2)), np.zeros((3, 2))], r"point_grids\[0\] is float64 \(0, 2\)"),
        ([np.zeros((3, 2)), [[0.5, 1.5]]], r"point_grids\[1\] has points outside 0..1"),
        ([[[np.nan, 0.5]], np.zeros((3, 2))], r"point_grids\[0\] has points outside"),
    ],
)
def test_bad_grids(grids: Any, message: str, model: Model) -> None:
    with pytest.raises(PromptError, match=message):
        AutomaticMaskGenerator(model, points_per_side=None, point_grids=grids, crop_n_layers=1)
    assert len(check_point_grids([[[0, 1]]], 0)[0]) == 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), "empty"),
        (np.full((5, 5, 3), 3.0), "expected 0 to 1"),
        (np.full((5, 5, 3), np.nan), "expected 0 to 1"),
        (np.zeros((2, 5, 5, 3), np.uint8), "shape"),
        ("nowhere.jpg", "no such file"),
    ],
)
def test_bad_images(image: Any, message: str, model: Model) -> None:
    with pytest.raises(EdgeTAMError, match=message):
        AutomaticMaskGenerator(model).generate(image)
