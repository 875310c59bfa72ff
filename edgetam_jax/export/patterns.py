"""Finds activations in a folded program, which JAX writes as several operations and other formats as one."""

import math
from typing import Any

from edgetam_jax.export.fold import Equation, Graph, Value, constant_of, remove_unused


def find_activations(graph: Graph) -> Graph:
    """The same program with equations named `gelu`, `relu` and `softmax` (along `params["axis"]`)."""
    made = {output: each for each in graph.equations for output in each.outputs}
    equations = [_activation(each, made) or each for each in graph.equations]
    return graph._replace(equations=remove_unused(equations, graph.outputs.values()))


def _activation(equation: Equation, made: dict[Value, Equation]) -> Equation | None:
    match equation.name:
        case "mul":
            source, params = _gelu(equation, made), {}
        case "div":
            source, params = _softmax(equation, made)
        case "max" | "select_n":
            source, params = _relu(equation, made), {}
        case _:
            return None
    if source is None:
        return None
    name = {"mul": "gelu", "div": "softmax"}.get(equation.name, "relu")
    return Equation(name, [source], equation.outputs, params)


def _gelu(equation: Equation, made: dict[Value, Equation]) -> Value | None:
    """`x * (0.5 + 0.5 * erf(x * 0.5**0.5))`."""
    for x, gate in (equation.inputs, equation.inputs[::-1]):
        half = _scaled(_made_by(gate, "add", made), 0.5)
        erf = _made_by(_scaled(_made_by(half, "mul", made), 0.5), "erf", made)
        scaled = _made_by(erf.inputs[0], "mul", made) if erf else None
        if isinstance(x, Value) and _scaled(scaled, 0.5**0.5) is x:
            return x
    return None


def _relu(equation: Equation, made: dict[Value, Equation]) -> Value | None:
    """`max(x, 0)`, or `where(x <= 0, 0, x)`."""
    if equation.name == "max":
        return _scaled(equation, 0.0)
    condition, x, other = equation.inputs
    test = _made_by(condition, "le", made)
    if test and isinstance(x, Value) and test.inputs[0] is x and constant_of(test.inputs[1]) == constant_of(other) == 0:
        return x
    return None


def _softmax(equation: Equation, made: dict[Value, Equation]) -> tuple[Value | None, dict[str, Any]]:
    """`exp(x - max(x)) / sum(exp(x - max(x)))` along one axis."""
    powers, total = equation.inputs
    exp = _made_by(powers, "exp", made)
    shifted = _made_by(exp.inputs[0], "sub", made) if exp else None
    total_sum = _made_by(_spread(total, made), "reduce_sum", made)
    if not shifted or not total_sum or total_sum.inputs[0] is not powers:
        return None, {}
    x, top = shifted.inputs
    top = _spread(top, made)
    limited = _made_by(top, "max", made)
    largest = _made_by(_scaled(limited, float("-inf")) if limited else top, "reduce_max", made)
    axes = total_sum.params["axes"]
    if not largest or largest.inputs[0] is not x or largest.params["axes"] != axes or len(axes) != 1:
        return None, {}
    return x, {"axis": axes[0]}


def _made_by(x: Any, name: str, made: dict[Value, Equation]) -> Equation | None:
    equation = made.get(x) if isinstance(x, Value) else None
    return equation if equation is not None and equation.name == name else None


def _scaled(equation: Equation | None, constant: float) -> Value | None:
    """The other operand of an operation with a constant."""
    if equation is None:
        return None
    for x, other in (equation.inputs, equation.inputs[::-1]):
        value = constant_of(other)
        if value is not None and isinstance(x, Value) and math.isclose(value, constant, rel_tol=1e-6):
            return x
    return None


def _spread(x: Any, made: dict[Value, Equation]) -> Any:
    """What a broadcast repeats."""
    equation = _made_by(x, "broadcast_in_dim", made) or _made_by(x, "reshape", made)
    return equation.inputs[0] if equation else x
