"""Counts the operations of a program's matrix products and convolutions, two for each multiply-add."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def count(function: Callable[..., Any], *args: Any) -> int:
    """Operations of one call, without running it. Of the branches of a conditional the largest counts."""
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: core.JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    outputs = math.prod(_shape(equation.outvars[0])) if equation.outvars else 0
    if name == "dot_general":
        (axes, _), _ = params["dimension_numbers"]
        return 2 * outputs * math.prod(_shape(equation.invars[0])[axis] for axis in axes)
    if name == "conv_general_dilated":
        kernel, features = _shape(equation.invars[1]), params["dimension_numbers"].rhs_spec[0]
        return 2 * outputs * math.prod(kernel) // kernel[features]
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in params["branches"])
    return params.get("length", 1) * sum(_count(inner) for inner in core.jaxprs_in_params(params))


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape
