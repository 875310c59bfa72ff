"""ONNX files in onnxruntime, against `track_step`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

from edgetam_jax import Model
from edgetam_jax.errors import ExportError
from edgetam_jax.export.onnx_model import build_onnx, operators
from edgetam_jax.export.programs import Program, build_programs
from tests.support.exported import Result, requests, track_one_by_one
from tests.unit.export.conftest import OBJECTS, OPTIONS

FORBIDDEN = {"Scatter", "ScatterND", "ScatterElements", "Loop", "Scan", "If", "NonZero"}
RTOL = 1e-5  # of the largest value; the network is random, so that errors grow


def run(proto: onnx.ModelProto | Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    source = str(proto) if isinstance(proto, Path) else proto.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([each.name for each in group] for group in (session.get_inputs(), session.get_outputs()))

    def call(arrays: dict[str, Any]) -> dict[str, Any]:
        results = session.run(outputs, {name: np.asarray(arrays[name]) for name in inputs})
        return dict(zip(outputs, results, strict=True))

    return call


def test_tracking_is_that_of_track_step(onnx_folder: Path, model: Model, frames: np.ndarray, live: Result) -> None:
    encode, track = run(onnx_folder / "encode.onnx"), run(onnx_folder / "track.onnx")
    got = track_one_by_one(model, encode, track, frames, requests(model.config.image_size), OBJECTS, OPTIONS)
    np.testing.assert_array_equal(got.logits == -1024, live.logits == -1024)
    for name in ("logits", "scores", "ious"):
        want = getattr(live, name)
        assert np.abs(getattr(got, name) - want).max() <= RTOL * np.abs(want[want != -1024]).max(), name
    for name, want in live.state.items():
        if not name.endswith("frames"):
            assert np.abs(got.state[name].astype(float) - want).max() <= RTOL * max(1, np.abs(want).max()), name


def test_decode_is_that_of_jax(onnx_folder: Path, model: Model, frames: np.ndarray) -> None:
    program = build_programs(model, OPTIONS)["decode"]
    features = run(onnx_folder / "encode.onnx")({"image": frames[0]})
    side = model.config.mask_size
    low = np.linspace(-30, 30, side * side, dtype=np.float32).reshape(side, side)
    prompt = {"points": np.full((4, 2), 30, np.float32), "labels": np.array([1, 0, -2, -2], np.int32), "mask": low}
    arrays = {name: (features | prompt | {"has_mask": np.array([True])})[name] for name in program.inputs}
    got, want = run(onnx_folder / "decode.onnx")(arrays), jax.jit(program.function)(model.params, arrays)
    assert set(got) == {"logits", "ious", "score"}
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5 * np.abs(value).max())


def test_operators_are_those_that_every_runtime_has(onnx_folder: Path) -> None:
    for name in ("encode", "track", "decode"):
        found = operators(onnx.load(onnx_folder / f"{name}.onnx"))
        assert not FORBIDDEN & set(found)
        assert {"LayerNormalization", "Gelu", "Softmax", "Relu"} <= set(found)
        assert "Erf" not in found and "Identity" not in found
    kinds = operators(onnx.load(onnx_folder / "encode.onnx"))
    # Of the trunk: two in the stem, one in each block, and in each of three halvings one more block and a stride.
    assert kinds["Conv"] == 2 + 4 + 2 * 3


def toy(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Program:
    """A program of arrays a, b, ... with one output."""
    inputs = {"abc"[i]: jax.ShapeDtypeStruct(shape, jnp.float32) for i, shape in enumerate(shapes)}

    def call(params: Any, arrays: dict[str, Any]) -> dict[str, Any]:
        del params
        return {"out": function(*arrays.values())}

    return Program("toy", call, {}, inputs, jax.eval_shape(call, {}, inputs))


WEIGHTS = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
TOYS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "einsum, free axes of constants": (
        lambda a: jnp.einsum("qc,hcd->hqd", a, jnp.ones((2, 4, 3)) * WEIGHTS[0].T),
        ((5, 4),),
    ),
    "einsum, batch": (lambda a, b: jnp.einsum("hqc,hkc->hqk", a, b), ((2, 5, 4), (2, 3, 4))),
    "einsum, two sums": (lambda a: jnp.einsum("xyc,xyz->cz", jnp.asarray(WEIGHTS), a), ((5, 3, 2),)),
    "broadcast, then moved": (lambda a: jnp.broadcast_to(a[:, None], (4, 3, 2)).transpose(2, 0, 1), ((4, 2),)),
    "broadcast, then merged": (lambda a: jnp.broadcast_to(a[:, None], (4, 3, 2)).reshape(12, 2), ((4, 2),)),
    "broadcast, then summed": (lambda a: jnp.broadcast_to(a[:, None], (4, 3, 2)).sum(1), ((4, 2),)),
    "edges": (lambda a: jnp.pad(a, ((1, 1), (2, 0)), mode="edge"), ((3, 4),)),
    "row written": (lambda a, b: a.at[jnp.argmax(b)].set(b[:2]), ((4, 2), (4,))),
    "rows read": (lambda a, b: a[b.astype(jnp.int32) % 4], ((4, 2), (3,))),
    "booleans chosen": (lambda a: jnp.where(a > 0, a < 1, a < -1).astype(jnp.float32), ((7,),)),
    "any and all": (lambda a: jnp.stack([(a > 0).any(), (a > -9).all()]).astype(jnp.float32), ((7,),)),
    "remainder": (lambda a: (a.astype(jnp.int32) % 3).astype(jnp.float32), ((7,),)),
    "relu of both kinds": (lambda a: jnp.where(a <= 0, 0, a) + 2 * jax.nn.relu(-a), ((7,),)),
    "slices with steps": (lambda a: a[1::2, :3] * 2, ((6, 4),)),
    "nothing to do": (lambda a: a, ((3,),)),
    "constant": (lambda a: jnp.arange(3.0) + 0 * a[0].astype(jnp.int32).astype(jnp.float32), ((3,),)),
}


@pytest.mark.parametrize("name", TOYS)
def test_a_primitive_computes_what_jax_does(name: str) -> None:
    function, shapes = TOYS[name]
    program = toy(function, *shapes)
    rng = np.random.default_rng(1)
    arrays = {key: (3 * rng.normal(size=each.shape)).astype(np.float32) for key, each in program.inputs.items()}
    want = program.function({}, {key: jnp.asarray(x) for key, x in arrays.items()})["out"]
    np.testing.assert_allclose(run(build_onnx(program))(arrays)["out"], want, rtol=1e-5, atol=1e-6)


def test_an_unknown_primitive_is_refused_by_name() -> None:
    with pytest.raises(ExportError, match="'sort'.*no ONNX operator"):
        build_onnx(toy(lambda a: jnp.sort(a), (5,)))
    with pytest.raises(ExportError, match="gather of anything but rows"):
        build_onnx(toy(lambda a, b: a[:, b.astype(jnp.int32)], (4, 2), (2,)))
    with pytest.raises(ExportError, match="cond"):
        build_onnx(toy(lambda a: jax.lax.cond(a[0] > 0, jnp.sin, jnp.cos, a), (3,)))
