"""The programs that are compiled: public functions on shapes alone, at the released network's size."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import edgetam_jax as et
from edgetam_jax.config import EDGETAM
from edgetam_jax.model import Model, param_shapes
from edgetam_jax.types import Label

FRAMES = 8  # of the clip that `track` and training see
POINTS = 4  # places for points of a prompt
WEIGHTS = r"^model\.(params|weights)"  # how a compiled program names the parameters among its arguments


class Program(NamedTuple):
    function: Callable[..., Any]
    args: tuple[Any, ...]
    donated: tuple[int, ...] = ()


def build(name: str, dtype: str) -> Program:
    """The program `name` of PROGRAMS for a model of `dtype`."""
    make, *args = PROGRAMS[name]
    model = jax.eval_shape(lambda model: model.astype(dtype).folded(), Model(param_shapes(EDGETAM), EDGETAM))
    return make(model, *args)


def _image(model: Any) -> Program:
    return Program(lambda model, image: et.encode_image(model, image), (model, _frame()))


def _click(model: Any) -> Program:
    features = jax.eval_shape(et.encode_image, model, _frame())
    prompts = et.ImagePrompts(
        points=_shape(1, POINTS, 2),
        labels=_shape(1, POINTS, dtype=jnp.int32),
        masks=_shape(1, 0, 0),
        has_mask=_shape(1, dtype=bool),
        valid=_shape(1, dtype=bool),
    )
    return Program(lambda model, *args: et.segment(model, *args, vectorize=True), (model, features, prompts))


def _step(model: Any, objects: int) -> Program:
    state = jax.eval_shape(lambda: et.init_state(model, objects, prompt_slots=1))
    step = lambda model, *args: et.track_step(model, *args, vectorize=True)  # noqa: E731
    return Program(step, (model, state, _frame(), _prompts(objects)), donated=(1,))


def _track(model: Any, objects: int) -> Program:
    def track(model: Any, frames: Any, prompts: Any) -> Any:
        return et.track(frames, prompts, model, vectorize=True, chunk=FRAMES)

    return Program(track, (model, _frame(FRAMES), _prompts(objects)))


def _frame(*lead: int) -> jax.ShapeDtypeStruct:
    return _shape(*lead, EDGETAM.image_size, EDGETAM.image_size, 3, dtype=jnp.uint8)


def _prompts(objects: int) -> et.Prompts:
    host = et.Prompts.build(
        [et.Prompt(points=[[0.0, 0.0]] * (POINTS - 1), labels=[Label.POSITIVE] * (POINTS - 1))] * objects
    )
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), host)


def _shape(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


PROGRAMS: dict[str, tuple[Any, ...]] = {
    "image": (_image,),
    "click": (_click,),
    "step, 1 object": (_step, 1),
    "step, 8 objects": (_step, 8),
    "track, 8 frames": (_track, 1),
}
