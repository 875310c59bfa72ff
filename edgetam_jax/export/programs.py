"""The three programs that are exported, as functions from named arrays to named arrays.

`encode` runs once a frame, `track` once an object and frame, `decode` for prompts on still images. The state of an
object is part of the arrays: it starts as zeros, and each `next_NAME` that `track` returns is the next call's NAME.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from edgetam_jax.errors import ConfigError
from edgetam_jax.export.names import IMAGE_FEATURES
from edgetam_jax.export.steps import (
    Arrays,
    bank_arrays,
    decode_image,
    encode,
    track_object,
    track_objects,
)
from edgetam_jax.model import Model
from edgetam_jax.tracking import memory

Shapes = dict[str, jax.ShapeDtypeStruct]


class Program(NamedTuple):
    """A function of a model's parameters and of named arrays, with the shapes of its arrays."""

    name: str
    function: Callable[[Any, Arrays], Arrays]
    params: Any
    inputs: Shapes
    outputs: Shapes


class ExportOptions(NamedTuple):
    """The sizes that an exported program is made for, besides the model's."""

    points: int = 4  # places for points, of which one is for the token that ends them
    slots: int = 2  # conditioning frames that are kept of an object


def check_options(options: ExportOptions) -> None:
    if not 2 <= options.points <= 64:
        raise ConfigError(f"points is {options.points}; expected 2 to 64 places, one more than the points of a prompt.")
    if not 1 <= options.slots <= 64:
        raise ConfigError(f"slots is {options.slots}; expected 1 to 64 conditioning frames.")


def build_programs(model: Model, options: ExportOptions) -> dict[str, Program]:
    """`encode`, `decode` and, if the model can track, `track`, for one image and one object."""
    check_options(options)
    image = {"image": _shape((model.config.image_size, model.config.image_size, 3), "uint8")}
    encode_program = _program("encode", encode, model, image)
    features = encode_program.outputs
    decoded = {name: features[name] for name in IMAGE_FEATURES} | _decode_prompt(model, options)
    programs = {"encode": encode_program, "decode": _program("decode", decode_image, model, decoded)}
    if not model.image_only:
        inputs = features | state_shapes(model, options) | prompt_shapes(model, options)
        programs["track"] = _program("track", track_object, model, inputs)
    return programs


def build_objects_program(model: Model, options: ExportOptions, features: Shapes, count: Any) -> Program:
    """`track` for `count` objects at once, a leading axis of all arrays but the features and the frame's number."""
    inputs = state_shapes(model, options) | prompt_shapes(model, options)
    rows = {
        name: shape if name == "frame" else jax.ShapeDtypeStruct((count, *shape.shape), shape.dtype)
        for name, shape in inputs.items()
    }
    return _program("track", track_objects, model, features | rows)


def _program(name: str, function: Callable[[Model, Arrays], Arrays], model: Model, inputs: Shapes) -> Program:
    def call(params: Any, arrays: Arrays) -> Arrays:
        return function(Model(params, model.config), arrays)

    outputs = jax.eval_shape(call, model.params, inputs)
    return Program(name, call, model.params, inputs, outputs)


def _shape(shape: tuple[int, ...], dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def state_shapes(model: Model, options: ExportOptions) -> Shapes:
    """The state of one object."""
    bank: Any = jax.eval_shape(lambda: bank_arrays(memory.init(model.config, options.slots)))
    return bank | {"frame": _shape((1,), "int32")}


def prompt_shapes(model: Model, options: ExportOptions) -> Shapes:
    """The prompt of one object on a frame."""
    size = model.config.image_size
    return _point_shapes(options) | {"mask": _shape((size, size), "uint8")}


def _decode_prompt(model: Model, options: ExportOptions) -> Shapes:
    size = model.config.mask_size
    return _point_shapes(options) | {"mask": _shape((size, size)), "has_mask": _shape((1,), "bool")}


def _point_shapes(options: ExportOptions) -> Shapes:
    return {"points": _shape((options.points, 2)), "labels": _shape((options.points,), "int32")}
