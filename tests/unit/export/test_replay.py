"""Folded programs as JAX functions again, and what LiteRT makes of them."""

from pathlib import Path

import jax
import numpy as np
import pytest

from edgetam_jax import Model
from edgetam_jax.export.api import export
from edgetam_jax.export.fold import constant_of, fold
from edgetam_jax.export.programs import build_programs
from edgetam_jax.export.replay import replay
from edgetam_jax.export.runtime import Prompt, Tracker
from tests.support.exported import prompt_arrays, requests
from tests.support.scene import clip
from tests.unit.export.conftest import OPTIONS


def test_a_folded_program_computes_the_same(model: Model, frames: np.ndarray) -> None:
    programs = build_programs(model, OPTIONS)
    features = jax.jit(programs["encode"].function)(model.params, {"image": frames[0]})
    state = {name: np.zeros(x.shape, x.dtype) for name, x in programs["track"].inputs.items()}
    asked = prompt_arrays(model, requests(model.config.image_size)[0], OPTIONS)
    for name, arrays in (("encode", {"image": frames[0]}), ("track", {**state, **features, **asked})):
        folded = fold(programs[name])
        assert not {each.name for each in folded.equations} & {"jit", "pjit", "cond", "custom_vjp_call", "rsqrt"}
        got = jax.jit(replay(folded))(arrays)
        want = jax.jit(programs[name].function)(model.params, arrays)
        assert set(got) == set(want)
        for key, value in want.items():
            scale = np.abs(np.asarray(value, float)).max()
            np.testing.assert_allclose(np.asarray(got[key], float), value, atol=1e-5 * scale, rtol=0, err_msg=key)


def test_parameters_alone_leave_no_work(model: Model) -> None:
    """BatchNorm, branches and composed projections are in the constants."""
    encode = build_programs(model, OPTIONS)["encode"]
    whole = jax.make_jaxpr(encode.function)(encode.params, encode.inputs)
    folded = fold(encode)
    assert len(folded.equations) < 0.6 * str(whole).count(" = ")
    assert constant_of(np.full((3, 2), 2.0)) == 2.0 and constant_of(np.arange(3)) is None


def test_litert_tracks_as_onnx_does(model: Model, onnx_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("litert_converter")
    pytest.importorskip("ai_edge_litert")
    export(model, tmp_path / "out", to="litert")
    trackers = Tracker(tmp_path / "out", threads=1), Tracker(onnx_folder, threads=1)
    for t, frame in enumerate(clip(0)):
        prompts = {3: Prompt(points=[[12, 14]], labels=[1])} if t == 0 else {}
        got, want = (tracker.step(frame, prompts)[3] for tracker in trackers)
        np.testing.assert_allclose(got.logits, want.logits, atol=1e-3)
