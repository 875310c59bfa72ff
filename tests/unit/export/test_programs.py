"""The exported functions in JAX itself, before any format, against `track_step`."""

import jax
import numpy as np
import pytest

from edgetam_jax import Model, Prompt, encode_image, segment
from edgetam_jax.errors import ConfigError
from edgetam_jax.export.programs import ExportOptions, build_programs, check_options
from edgetam_jax.images.prompts import ImagePrompts
from tests.support.exported import Result, requests, track_one_by_one
from tests.unit.export.conftest import OBJECTS, OPTIONS

RTOL = 1e-5  # of the largest value


def test_one_object_without_branches_is_track_step(model: Model, frames: np.ndarray, live: Result) -> None:
    programs = build_programs(model, OPTIONS)
    encode, track = (jax.jit(programs[name].function) for name in ("encode", "track"))
    got = track_one_by_one(
        model,
        lambda arrays: encode(model.params, arrays),
        lambda arrays: track(model.params, arrays),
        frames,
        requests(model.config.image_size),
        OBJECTS,
        OPTIONS,
    )
    np.testing.assert_array_equal(got.logits == -1024, live.logits == -1024)
    assert (live.logits[:2, 2] == -1024).all() and (live.logits[2:, 2] != -1024).any()  # not there before its prompt
    for name in ("logits", "scores", "ious"):
        want = getattr(live, name)
        assert np.abs(getattr(got, name) - want).max() <= RTOL * np.abs(want[want != -1024]).max(), name
    for name, want in live.state.items():
        if name.endswith("frames"):  # undefined where nothing is
            valid = live.state[name.replace("frames", "valid")]
            np.testing.assert_array_equal(np.where(valid, got.state[name], -1), np.where(valid, want, -1))
        else:
            assert np.abs(got.state[name].astype(float) - want).max() <= RTOL * max(1, np.abs(want).max()), name
    assert (got.state["frame"] == len(frames)).all()


@pytest.mark.parametrize("with_mask", [False, True])
def test_decode_is_segment(model: Model, frames: np.ndarray, with_mask: bool) -> None:
    size, side = model.config.image_size, model.config.mask_size
    programs = build_programs(model, OPTIONS)
    encode, decode = (jax.jit(programs[name].function) for name in ("encode", "decode"))
    features = encode(model.params, {"image": frames[0]})
    low = np.linspace(-60, 60, side * side, dtype=np.float32).reshape(side, side)
    got = decode(
        model.params,
        {name: features[name] for name in ("embedding", "stride4", "stride8")}
        | {"points": np.array([[20, 22], [40, 50], [0, 0], [0, 0]], np.float32)}
        | {"labels": np.array([1, 0, -2, -2], np.int32), "mask": low, "has_mask": np.array([with_mask])},
    )
    prompt = Prompt(points=[[20, 22], [40, 50]], labels=[1, 0], mask=low if with_mask else None)
    want_features = encode_image(model, frames[0], preprocess="video")
    want = segment(model, want_features, ImagePrompts.build([prompt], (size, size)), multimask=True)
    for g, w in ((got["logits"][1:], want.logits[0]), (got["ious"][1:], want.ious[0]), (got["score"], want.scores[:1])):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5 * np.abs(w).max())


def test_a_model_for_images_has_no_tracker(model: Model, frames: np.ndarray) -> None:
    video_only = {"memory_attention", "memory_encoder", "spatial_perceiver", "obj_ptr_proj", "maskmem_tpos_enc"}
    params = {name: value for name, value in model.params.items() if name not in video_only}
    whole, images = build_programs(model, OPTIONS), build_programs(Model(params, model.config), OPTIONS)
    assert set(whole) == {"encode", "decode", "track"}
    assert set(images) == {"encode", "decode"}
    assert set(images["encode"].outputs) == {"embedding", "stride4", "stride8"}
    got = jax.jit(images["encode"].function)(params, {"image": frames[0]})
    want = jax.jit(whole["encode"].function)(model.params, {"image": frames[0]})
    np.testing.assert_array_equal(got["embedding"], want["embedding"])


@pytest.mark.parametrize("options", [ExportOptions(points=1), ExportOptions(points=65), ExportOptions(slots=0)])
def test_sizes_that_make_no_program_are_refused(options: ExportOptions) -> None:
    with pytest.raises(ConfigError, match="expected"):
        check_options(options)
