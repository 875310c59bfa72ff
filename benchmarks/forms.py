"""Ways to compute the same, timed by turns: `python -m benchmarks.forms [--size 1024]`.

Filters of one channel each as sums of shifted copies, which is what the network does, or as grouped convolutions; and
memory attention's one head as two products with a softmax between them, which is what it does, or by JAX's functions
for attention. What a device cannot run is a line that says so.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks import plots, results
from benchmarks.parts import DTYPES, Part, take_turns
from edgetam_jax import tune
from edgetam_jax.config import Config
from edgetam_jax.nn.attention import scores_of, softmax
from edgetam_jax.nn.layers import depthwise_conv, matmul


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--rounds", type=int, default=12, help="how often each is run (12)")
    arguments = parser.parse_args()
    tune()
    rows = take_turns(forms_of(results.config_of(arguments.size), *DTYPES), arguments.rounds)
    print(plots.by_type(rows))
    results.write("forms", arguments.size, rounds=arguments.rounds, rows=rows)


def forms_of(config: Config, *dtypes: str) -> list[Part]:
    """Compiled, and run once."""
    parts = []
    for what, forms, shapes in (*filters(config), attention(config)):
        for name, form in forms.items():
            found = [part for dtype in dtypes if (part := prepare(f"{what}: {name}", form, shapes, dtype))]
            parts += found if len(found) == len(dtypes) else []
    return parts


def filters(config: Config) -> list[tuple[str, dict[str, Callable[..., Array]], list[tuple[int, ...]]]]:
    """The encoder's finest ones, and the memory encoder's largest."""
    forms = {"shifted copies": depthwise_conv, "grouped convolution": grouped_conv}
    cases = (3, config.image_size // 4, config.trunk.widths[0]), (7, config.embedding_size, config.hidden_dim)
    return [
        (f"{size}x{size} filters, {side}x{side}x{width}", forms, [(side, side, width), (size, size, 1, width), (width,)])
        for size, side, width in cases
    ]


def grouped_conv(x: Array, kernel: Array, bias: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x[None], kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=x.shape[-1]
    )[0] + bias


def attention(config: Config) -> tuple[str, dict[str, Callable[..., Array]], list[tuple[int, ...]]]:
    """Of an image to itself."""
    count, width = config.embedding_size**2, config.hidden_dim

    def products(q: Array, k: Array, v: Array) -> Array:
        return matmul(softmax(scores_of(q * width**-0.5, k)).astype(v.dtype), v)

    def builtin(implementation: Any, q: Array, k: Array, v: Array) -> Array:
        return jax.nn.dot_product_attention(*(x[:, None] for x in (q, k, v)), implementation=implementation)[:, 0]

    forms = {"products": products, "jax.nn": functools.partial(builtin, "xla")}
    forms["jax.nn, cuDNN's flash attention"] = functools.partial(builtin, "cudnn")
    return f"attention, {count} to {count}, {width} channels", forms, [(count, width)] * 3


def prepare(name: str, form: Callable[..., Array], shapes: list[tuple[int, ...]], dtype: str) -> Part | None:
    rng = np.random.default_rng(0)
    arguments = tuple(jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes)
    try:
        program = jax.jit(form).lower(*arguments).compile()
        jax.block_until_ready(program(*arguments))
    except (ValueError, RuntimeError, NotImplementedError) as error:
        print(f"{name}, {dtype}: {str(error).splitlines()[0]}")
        return None
    return Part(name, dtype, program, arguments, [])


if __name__ == "__main__":
    main()
