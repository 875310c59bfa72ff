"""Folds a traced program: what depends on constants and parameters alone is computed once, calls are inlined.

What remains is a flat list of equations over the inputs. Named functions in `BLOCKS` stay one equation each, so that
other formats can use their own operator.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from edgetam_jax.errors import ExportError
from edgetam_jax.export.programs import Program

BLOCKS = frozenset({"layer_norm", "depthwise_conv"})
CALLS = frozenset({"jit", "pjit", "custom_vjp_call", "custom_jvp_call", "checkpoint", "remat", "closed_call"})
IDENTITIES = frozenset({"stop_gradient", "copy", "copy_p", "optimization_barrier"})
SMALL = 16  # elements of constants that are computed at once, because branches may depend on them


class Value:
    """An array that depends on the inputs."""

    def __init__(self, aval: Any) -> None:
        self.shape: tuple[int, ...] = tuple(aval.shape)
        self.dtype = np.dtype(aval.dtype)


class _Known:
    """An array that depends on constants and parameters only. All of them are computed together at the end."""

    def __init__(self, aval: Any) -> None:
        self.shape: tuple[int, ...] = tuple(aval.shape)


class Equation(NamedTuple):
    """One operation: its inputs are values or NumPy arrays."""

    name: str  # of the primitive, or of the block
    inputs: list[Any]
    outputs: list[Value]
    params: dict[str, Any]
    primitive: Any = None  # of JAX; None for blocks and for what replaces several equations


class Graph(NamedTuple):
    inputs: dict[str, Value]
    equations: list[Equation]
    outputs: dict[str, Any]  # values, or NumPy arrays where an output is constant


def fold(program: Program) -> Graph:
    """The equations of a program that depend on its inputs, with its parameters in them."""
    closed = jax.make_jaxpr(program.function)(program.params, program.inputs)
    leaves, _ = jax.tree.flatten(program.params)
    _, tree = jax.tree.flatten(program.inputs)
    known = [_Known(var.aval) for var in closed.jaxpr.invars[: len(leaves)]]
    values = [Value(var.aval) for var in closed.jaxpr.invars[len(leaves) :]]
    folding = _Folding()
    results = folding.run(closed, [*known, *values])
    names = jax.tree.structure(program.outputs)
    outputs: dict[str, Any] = jax.tree.unflatten(names, results)
    equations = remove_unused(folding.equations, outputs.values())
    constants = folding.compute(known, leaves, equations, outputs.values())

    def replace(x: Any) -> Any:
        return constants[x] if isinstance(x, _Known) else x

    equations = [each._replace(inputs=list(map(replace, each.inputs))) for each in equations]
    outputs = {name: replace(x) for name, x in outputs.items()}
    return Graph(jax.tree.unflatten(tree, values), equations, outputs)


def remove_unused(equations: Sequence[Equation], outputs: Iterable[Any]) -> list[Equation]:
    """The equations whose results are needed, in their order."""
    needed = {x for x in outputs if isinstance(x, Value)}
    kept = []
    for equation in reversed(equations):
        if needed.intersection(equation.outputs):
            kept.append(equation)
            needed.update(x for x in equation.inputs if isinstance(x, Value))
    return kept[::-1]


def constant_of(x: Any) -> float | None:
    """The number that all elements of a constant are, or None."""
    if isinstance(x, Value) or not np.size(x):
        return None
    array = np.asarray(x)
    first = array.flat[0]
    return float(first) if (array == first).all() else None


class _Folding:
    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self.known: list[tuple[Any, list[Any], list[_Known]]] = []  # equation of the jaxpr, inputs, outputs

    def run(self, closed: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
        env: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
        env.update(zip(closed.jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            if isinstance(atom, Literal):
                aval: Any = atom.aval
                return np.asarray(atom.val, aval.dtype)
            return env[atom]

        for eqn in closed.jaxpr.eqns:
            env.update(zip(eqn.outvars, self._equation(eqn, list(map(read, eqn.invars))), strict=True))
        return list(map(read, closed.jaxpr.outvars))

    def _equation(self, eqn: Any, inputs: list[Any]) -> Sequence[Any]:
        name, unknown = eqn.primitive.name, any(isinstance(x, Value) for x in inputs)
        if name == "platform_index":
            return [_default_platform(eqn.params["platforms"])]
        if name in CALLS:
            block = block_name(eqn)
            if not (unknown and block in BLOCKS):
                return self.run(called(eqn), inputs)
            name, inputs = block, inputs[eqn.params.get("num_consts", 0) :]
        if name in IDENTITIES:
            return inputs
        if name == "cond" and isinstance(inputs[0], np.ndarray):
            branches = eqn.params["branches"]
            return self.run(branches[int(np.clip(inputs[0], 0, len(branches) - 1))], inputs[1:])
        if not unknown:
            return self._constant(eqn, inputs)
        outputs = [Value(var.aval) for var in eqn.outvars]
        if all(0 in each.shape for each in outputs):
            return [np.zeros(each.shape, each.dtype) for each in outputs]
        if name == "concatenate":
            inputs = [x for x in inputs if 0 not in x.shape]
            if len(inputs) == 1:
                return inputs
        primitive = None if name in BLOCKS else eqn.primitive
        self.equations.append(Equation(name, inputs, outputs, eqn.params, primitive))
        return outputs

    def _constant(self, eqn: Any, inputs: list[Any]) -> Sequence[Any]:
        if all(isinstance(x, np.ndarray) and x.size <= SMALL for x in inputs):
            with jax.ensure_compile_time_eval():
                results = _bind(eqn, [jnp.asarray(x) for x in inputs])
            if all(x.size <= SMALL for x in results):
                return list(map(np.asarray, results))
        outputs = [_Known(var.aval) for var in eqn.outvars]
        self.known.append((eqn, inputs, outputs))
        return outputs

    def compute(
        self, known: list[_Known], leaves: list[Any], equations: list[Equation], outputs: Iterable[Any]
    ) -> dict[_Known, np.ndarray]:
        """The constants that equations and outputs use, computed by one compiled program."""
        read = [x for each in equations for x in each.inputs] + list(outputs)
        wanted = list(dict.fromkeys(x for x in read if isinstance(x, _Known)))
        needed, steps = set(wanted), []
        for eqn, inputs, results in reversed(self.known):
            if needed.intersection(results):
                steps.append((eqn, inputs, results))
                needed.update(x for x in inputs if isinstance(x, _Known))

        def evaluate(leaves: list[Any]) -> list[Any]:
            env: dict[Any, Any] = dict(zip(known, leaves, strict=True))
            for eqn, inputs, results in reversed(steps):
                arrays = [env[x] if isinstance(x, _Known) else jnp.asarray(x) for x in inputs]
                env.update(zip(results, _bind(eqn, arrays), strict=True))
            return [env[x] for x in wanted]

        with jax.default_matmul_precision("highest"):
            arrays = jax.jit(evaluate)(leaves)
        return dict(zip(wanted, map(np.asarray, arrays), strict=True))


def _bind(eqn: Any, arrays: list[Any]) -> list[Any]:
    results = eqn.primitive.bind(*arrays, **eqn.params)
    return list(results) if eqn.primitive.multiple_results else [results]


def _default_platform(platforms: Sequence[Any]) -> np.ndarray:
    """The branch of `lax.platform_dependent` for a platform that JAX does not know: its default."""
    named = [index for index, each in enumerate(platforms) if each is None or "default" in each]
    return np.asarray(named[0] if named else len(platforms) - 1, np.int32)


def called(eqn: Any) -> ClosedJaxpr:
    """The program that a call runs."""
    params = eqn.params
    return params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]


def block_name(eqn: Any) -> str | None:
    """The name of the Python function behind a call, without leading underscores."""
    info = getattr(called(eqn).jaxpr, "debug_info", None)
    name = eqn.params["name"] if "name" in eqn.params else getattr(info, "func_name", None)
    return name and name.lstrip("_")


def equations_within(params: dict[str, Any]) -> Iterable[Any]:
    """All equations of the program that a block calls, those of its branches included."""
    nested: Callable[[Any], list[Any]] = lambda x: list(x) if isinstance(x, tuple | list) else [x]  # noqa: E731
    for value in params.values():
        for each in nested(value):
            jaxpr = getattr(each, "jaxpr", None)
            for eqn in getattr(jaxpr, "eqns", ()):
                yield eqn
                yield from equations_within(eqn.params)


def epsilon_of(equation: Equation) -> float:
    """The constant that a `layer_norm` adds to the variance: the only small one."""
    found = {
        float(atom.val)
        for eqn in equations_within(equation.params)
        if eqn.primitive.name == "add"
        for atom in eqn.invars
        if hasattr(atom, "val") and np.ndim(atom.val) == 0 and 0 < float(atom.val) < 1e-3
    }
    if len(found) != 1:
        raise ExportError(f"a layer_norm with one epsilon was expected, found {sorted(found)}.")
    return found.pop()
