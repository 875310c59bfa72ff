"""The programs that are compiled: public functions on shapes alone, at the released network's size."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import edgetam_jax as et
from edgetam_jax.config import EDGETAM
from edgetam_jax.data.example import Example
from edgetam_jax.model import Model, param_shapes
from edgetam_jax.training.optimizer import group_params, make_optimizer
from edgetam_jax.training.recipe import Recipe
from edgetam_jax.training.sharding import AXIS
from edgetam_jax.training.train_step import init_train_state, make_train_step
from edgetam_jax.types import Label, PromptInputs

FRAMES = 8  # of the clip that `track` and training see
TRAINING = "training step, 8 frames"
POINTS = 4  # places for points of a prompt
WEIGHTS = r"^model\.(params|weights)"  # how a compiled program names the parameters among its arguments


class Program(NamedTuple):
    function: Callable[..., Any]
    args: tuple[Any, ...]
    donated: tuple[int, ...] = ()


def build(name: str, dtype: str, device: Any = None) -> Program:
    """The program `name` of PROGRAMS for a model of `dtype`; a training step is for `device`, by default the first."""
    if name == TRAINING:
        return _train(dtype, device or jax.devices()[0])
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


def _decoder(model: Any) -> Program:
    size = EDGETAM.mask_size
    prompt = PromptInputs(
        points=_shape(POINTS, 2),
        labels=_shape(POINTS, dtype=jnp.int32),
        mask=_shape(size, size),
        has_mask=_shape(dtype=bool),
    )
    features = jax.eval_shape(et.encode_image, model, _frame())
    return Program(lambda model, *args: model.segment(*args), (model, features, prompt))


def _filters(model: Any) -> Program:
    """A block of the memory encoder's fuser, whose filters and norm are fenced."""
    embedding = jax.eval_shape(et.encode_image, model, _frame()).embedding
    run = lambda model, x: model.apply(lambda net, x: net.memory_encoder.fuser.layers[0](x), x)  # noqa: E731
    return Program(run, (model, embedding))


def _step(model: Any, objects: int) -> Program:
    state = jax.eval_shape(lambda: et.init_state(model, objects, prompt_slots=1))
    step = lambda model, *args: et.track_step(model, *args, vectorize=True)  # noqa: E731
    return Program(step, (model, state, _frame(), _prompts(objects)), donated=(1,))


def _track(model: Any, objects: int) -> Program:
    def track(model: Any, frames: Any, prompts: Any) -> Any:
        return et.track(frames, prompts, model, vectorize=True, chunk=FRAMES)

    return Program(track, (model, _frame(FRAMES), _prompts(objects)))


def _train(dtype: Any, device: Any) -> Program:
    """A step on one clip with two objects, as a recipe trains by default."""
    recipe = Recipe(image_size=EDGETAM.image_size, batch=1, dtype=dtype)
    params = param_shapes(EDGETAM)
    layout = group_params(params, recipe.optimizer)
    optimizer = make_optimizer(params, recipe.optimizer, recipe.steps)
    mesh = jax.sharding.Mesh(np.array([device]), (AXIS,))
    step = make_train_step(recipe.train_step_config(EDGETAM), optimizer, layout, mesh)
    state = jax.eval_shape(lambda params: init_train_state(layout.flatten(params), optimizer), params)
    frames = _frame(1, FRAMES)
    example = Example(frames, _shape(1, FRAMES, 2, *frames.shape[2:4], dtype=bool), _shape(1, 2, dtype=bool))
    return Program(step, (state, example, jax.eval_shape(lambda: jax.random.key(0))), donated=(0,))


def _frame(*lead: int) -> Any:
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
    "decoder": (_decoder,),
    "filters": (_filters,),
    "step, 1 object": (_step, 1),
    "step, 8 objects": (_step, 8),
    "track, 8 frames": (_track, 1),
    TRAINING: (),
}
