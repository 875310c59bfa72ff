"""Alternative implementations of the same computation, timed in turns: `python -m benchmarks.forms [--size 1024]`.

Depthwise filters as sums of shifted copies, as in the network, or as grouped convolutions; and the single head of
memory attention as two matrix products with a softmax between them, as in the network, or by JAX's own functions.
Forms that a device cannot run are printed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks import results
from benchmarks.parts import DTYPES, Part, time_by_dtype
from edgetam_jax.config import Config
from edgetam_jax.nn.attention import dot_product_scores, softmax
from edgetam_jax.nn.kernels import depthwise_conv, matmul


def main() -> None:
    time_by_dtype("forms", __doc__, lambda size: forms_of(results.config_of(size), *DTYPES))


class Case(NamedTuple):
    name: str
    forms: Mapping[str, Callable[..., Any]]  # the first is the one that the network uses
    shapes: Sequence[tuple[int, ...]]  # of the arguments


def forms_of(config: Config, *dtypes: str) -> list[Part]:
    """All forms, compiled and run once. Forms that do not run in every dtype are left out."""
    parts = []
    for case, forms, shapes in cases(config):
        for name, form in forms.items():
            prepared = [prepare(f"{case}: {name}", form, shapes, dtype) for dtype in dtypes]
            parts += [part for part in prepared if part] if None not in prepared else []
    return parts


def cases(config: Config) -> list[Case]:
    """The image encoder's filters at the finest resolution, the memory encoder's largest, and self-attention."""
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
        return matmul(softmax(dot_product_scores(q * width**-0.5, k)).astype(v.dtype), v)

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
