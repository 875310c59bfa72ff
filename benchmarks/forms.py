"""Ways to compute the same, timed by turns: `python -m benchmarks.forms [--size 1024]`.

Filters of one channel each as sums of shifted copies, which is what the network does, or as grouped convolutions; and
memory attention's one head as two products with a softmax between them, which is what it does, or by JAX's functions
for attention. What a device cannot run is a line that says so.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks import results
from benchmarks.parts import DTYPES, Part, time_by_type
from edgetam_jax.config import Config
from edgetam_jax.nn.attention import scores_of, softmax
from edgetam_jax.nn.kernels import depthwise_conv, matmul


def main() -> None:
    time_by_type("forms", __doc__, lambda size: forms_of(results.config_of(size), *DTYPES))


class Case(NamedTuple):
    what: str
    forms: dict[str, Callable[..., Array]]  # the first is the network's
    shapes: Sequence[tuple[int, ...]]  # of the arguments


def forms_of(config: Config, *dtypes: str) -> list[Part]:
    """Compiled, and run once. Those that do not run in every type are left out."""
    parts = []
    for what, forms, shapes in cases(config):
        for name, form in forms.items():
            found = [prepare(f"{what}: {name}", form, shapes, dtype) for dtype in dtypes]
            parts += found if None not in found else []
    return parts


def cases(config: Config) -> list[Case]:
    """The encoder's finest filters, the memory encoder's largest, and an image's attention to itself."""
    fine, side, width = config.image_size // 4, config.embedding_size, config.hidden_dim
    return [filters(3, fine, config.trunk.widths[0]), filters(7, side, width), attention(side**2, width)]


def filters(size: int, side: int, width: int) -> Case:
    def grouped(x: Array, kernel: Array, bias: Array) -> Array:
        layout = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(
            x[None], kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=width
        )
        return y[0] + bias

    return Case(
        f"{size}x{size} filters, {side}x{side}x{width}",
        {"shifted copies": depthwise_conv, "grouped convolution": grouped},
        [(side, side, width), (size, size, 1, width), (width,)],
    )


def attention(count: int, width: int) -> Case:
    def products(q: Array, k: Array, v: Array) -> Array:
        return matmul(softmax(scores_of(q * width**-0.5, k)).astype(v.dtype), v)

    def builtin(implementation: Any, q: Array, k: Array, v: Array) -> Array:
        return jax.nn.dot_product_attention(*(x[:, None] for x in (q, k, v)), implementation=implementation)[:, 0]

    builtins = {"jax.nn": "xla", "jax.nn, cuDNN's flash attention": "cudnn"}
    forms = {name: partial(builtin, implementation) for name, implementation in builtins.items()}
    return Case(
        f"attention, {count} to {count}, {width} channels", {"products": products, **forms}, [(count, width)] * 3
    )


def prepare(name: str, form: Callable[..., Array], shapes: Sequence[tuple[int, ...]], dtype: str) -> Part | None:
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
