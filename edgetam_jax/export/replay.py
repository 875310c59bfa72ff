"""A folded program as a JAX function again, in operations that converters of StableHLO can take."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from edgetam_jax.errors import ExportError
from edgetam_jax.export.fold import Equation, Graph, Value, epsilon_of
from edgetam_jax.nn.kernels import layer_norm_by, mean_by_sum

Arrays = dict[str, Any]


def replay(graph: Graph) -> Callable[[Arrays], Arrays]:
    """The function of named arrays that a folded program computes."""

    def function(arrays: Arrays) -> Arrays:
        env = {value: arrays[name] for name, value in graph.inputs.items()}

        def read(x: Any) -> Any:
            return env[x] if isinstance(x, Value) else jnp.asarray(x)

        for equation in graph.equations:
            env.update(zip(equation.outputs, _compute(equation, list(map(read, equation.inputs))), strict=True))
        return {name: read(x) for name, x in graph.outputs.items()}

    return function


def _compute(equation: Equation, inputs: list[Any]) -> list[Any]:
    match equation.name:
        case "depthwise_conv":
            x, kernel, bias = inputs
            return [_depthwise(x, kernel, bias, equation.outputs[0].shape)]
        case "layer_norm":
            x, scale, bias = inputs
            return [layer_norm_by(epsilon_of(equation), mean_by_sum, x, scale, bias)]
        case "scatter":
            x, index, row = inputs
            return [_write_row(equation, x, index, row)]
        case "tile":  # whose own form has twice as many axes, too many for LiteRT
            (x,) = inputs
            for axis, count in enumerate(equation.params["reps"]):
                x = jnp.concatenate([x] * count, axis)
            return [x]
        case "pad" if inputs[0].dtype == np.bool_:  # LiteRT pads no booleans
            padded = lax.pad(inputs[0].astype(jnp.float32), jnp.zeros(()), equation.params["padding_config"])
            return [padded > 0]
    results = equation.primitive.bind(*inputs, **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]


def _depthwise(x: jax.Array, kernel: jax.Array, bias: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    stride, pad = x.shape[-3] // shape[-3], kernel.shape[0] // 2
    out = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[-3:]),
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=kernel.shape[-1],
    )
    return out.reshape(shape) + lax.broadcast_to_rank(bias, len(shape))


def _write_row(equation: Equation, x: jax.Array, index: jax.Array, row: jax.Array) -> jax.Array:
    """`x.at[i].set(row)` as a choice for each row."""
    numbers = equation.params["dimension_numbers"]
    if numbers.inserted_window_dims != (0,) or index.shape != (1,):
        raise ExportError("scatter to anything but one row cannot be exported.")
    here = (jnp.arange(x.shape[0], dtype=index.dtype) == index).reshape(-1, *[1] * (x.ndim - 1))
    return jnp.where(here, row[None], x)
