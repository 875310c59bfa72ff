"""ONNX operators for JAX's primitives that act on elements, shapes and single axes."""

from collections.abc import Callable

import numpy as np

from edgetam_jax.errors import ExportError
from edgetam_jax.export.fold import Equation, Value
from edgetam_jax.export.onnx_graph import OnnxGraph

BINARY = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "and": "And",
    "or": "Or",
    "xor": "Xor",
    "lt": "Less",
    "gt": "Greater",
    "le": "LessOrEqual",
    "ge": "GreaterOrEqual",
    "eq": "Equal",
}
UNARY = {
    "abs": "Abs",
    "cos": "Cos",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "gelu": "Gelu",
    "log": "Log",
    "logistic": "Sigmoid",
    "neg": "Neg",
    "not": "Not",
    "relu": "Relu",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}
REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
Emit = Callable[[OnnxGraph, Equation], None]


def binary(graph: OnnxGraph, equation: Equation) -> None:
    kind = BINARY[equation.name]
    if equation.name in ("and", "or", "xor") and equation.inputs[0].dtype != np.bool_:
        raise ExportError(f"{equation.name} of integers has no ONNX operator here.")
    names, shapes = zip(*map(graph.narrow, equation.inputs), strict=True)
    graph.bind(equation.outputs[0], graph.op(kind, *names), np.broadcast_shapes(*shapes))


def not_equal(graph: OnnxGraph, equation: Equation) -> None:
    names, shapes = zip(*map(graph.narrow, equation.inputs), strict=True)
    graph.bind(equation.outputs[0], graph.op("Not", graph.op("Equal", *names)), np.broadcast_shapes(*shapes))


def remainder(graph: OnnxGraph, equation: Equation) -> None:
    names, shapes = zip(*map(graph.narrow, equation.inputs), strict=True)
    graph.bind(equation.outputs[0], graph.op("Mod", *names, fmod=1), np.broadcast_shapes(*shapes))


def unary(graph: OnnxGraph, equation: Equation) -> None:
    name, shape = graph.narrow(equation.inputs[0])
    graph.bind(equation.outputs[0], graph.op(UNARY[equation.name], name), shape)


def square(graph: OnnxGraph, equation: Equation) -> None:
    name, shape = graph.narrow(equation.inputs[0])
    graph.bind(equation.outputs[0], graph.op("Mul", name, name), shape)


def reciprocal_root(graph: OnnxGraph, equation: Equation) -> None:
    name, shape = graph.narrow(equation.inputs[0])
    graph.bind(equation.outputs[0], graph.op("Reciprocal", graph.op("Sqrt", name)), shape)


def integer_pow(graph: OnnxGraph, equation: Equation) -> None:
    name, shape = graph.narrow(equation.inputs[0])
    power = graph.constant(np.asarray(equation.params["y"], equation.inputs[0].dtype))
    graph.bind(equation.outputs[0], graph.op("Pow", name, power), shape)


def softmax(graph: OnnxGraph, equation: Equation) -> None:
    name = graph.full(equation.inputs[0])
    graph.bind(equation.outputs[0], graph.op("Softmax", name, axis=equation.params["axis"]))


def convert(graph: OnnxGraph, equation: Equation) -> None:
    name, shape = graph.narrow(equation.inputs[0])
    graph.bind(equation.outputs[0], graph.cast(name, equation.outputs[0].dtype), shape)


def choose(graph: OnnxGraph, dtype: np.dtype, condition: str, no: str, yes: str) -> str:
    """`no` or `yes`; onnxruntime cannot choose between booleans by Where."""
    if dtype != np.bool_:
        return graph.op("Where", condition, yes, no)
    return graph.op("Or", graph.op("And", condition, yes), graph.op("And", graph.op("Not", condition), no))


def select(graph: OnnxGraph, equation: Equation) -> None:
    if len(equation.inputs) != 3 or equation.inputs[0].dtype != np.bool_:
        raise ExportError("select_n between more than two arrays has no ONNX operator here.")
    names, shapes = zip(*map(graph.narrow, equation.inputs), strict=True)
    rank = len(equation.outputs[0].shape)
    shape = np.broadcast_shapes(*shapes)
    # A scalar condition, which has no axes to be narrow along, broadcasts as it is.
    assert len(shape) == rank
    graph.bind(equation.outputs[0], choose(graph, equation.outputs[0].dtype, *names), shape)


def clamp(graph: OnnxGraph, equation: Equation) -> None:
    names, shapes = zip(*map(graph.narrow, equation.inputs), strict=True)
    low, x, high = names
    graph.bind(equation.outputs[0], graph.op("Min", graph.op("Max", x, low), high), np.broadcast_shapes(*shapes))


def reshape(graph: OnnxGraph, equation: Equation) -> None:
    value, out = equation.inputs[0], equation.outputs[0]
    name, shape = graph.narrow(value)
    if shape != value.shape and (narrow := reshape_narrow(shape, value.shape, out.shape)):
        graph.bind(out, graph.reshape(name, narrow), narrow)
    else:
        graph.bind(out, graph.reshape(graph.full(value), out.shape))


def reshape_narrow(narrow: tuple[int, ...], full: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...] | None:
    """The narrow form's new shape where a reshape only adds or removes axes of 1."""
    kept = [(n, f) for n, f in zip(narrow, full, strict=True) if f != 1]
    if [f for _, f in kept] != [f for f in new if f != 1]:
        return None
    rest = iter(kept)
    return tuple(1 if f == 1 else next(rest)[0] for f in new)


def broadcast(graph: OnnxGraph, equation: Equation) -> None:
    name, shape = graph.narrow(equation.inputs[0])
    wide = [1] * len(equation.outputs[0].shape)
    for axis, length in zip(equation.params["broadcast_dimensions"], shape, strict=True):
        wide[axis] = length
    name = name if tuple(wide) == shape else graph.reshape(name, wide)
    graph.bind(equation.outputs[0], name, wide)


def tile(graph: OnnxGraph, equation: Equation) -> None:
    name = graph.full(equation.inputs[0])
    graph.bind(equation.outputs[0], graph.op("Tile", name, graph.ints(*equation.params["reps"])))


def transpose(graph: OnnxGraph, equation: Equation) -> None:
    name, shape = graph.narrow(equation.inputs[0])
    order = equation.params["permutation"]
    graph.bind(equation.outputs[0], graph.transpose(name, order), [shape[axis] for axis in order])


def concatenate(graph: OnnxGraph, equation: Equation) -> None:
    names = map(graph.full, equation.inputs)
    graph.bind(equation.outputs[0], graph.op("Concat", *names, axis=equation.params["dimension"]))


def stack(graph: OnnxGraph, equation: Equation) -> None:
    axis, shape = equation.params["axis"], list(equation.outputs[0].shape)
    shape[axis] = 1
    names = [graph.reshape(graph.full(x), shape) for x in equation.inputs]
    graph.bind(equation.outputs[0], graph.op("Concat", *names, axis=axis))


def split(graph: OnnxGraph, equation: Equation) -> None:
    sizes = graph.ints(*equation.params["sizes"])
    name, axis = graph.full(equation.inputs[0]), equation.params["axis"]
    names = graph.ops("Split", len(equation.outputs), name, sizes, axis=axis)
    for value, each in zip(equation.outputs, names, strict=True):
        graph.bind(value, each)


def slice_(graph: OnnxGraph, equation: Equation) -> None:
    source, params = equation.inputs[0], equation.params
    strides = params["strides"] or [1] * len(source.shape)
    bounds = list(zip(params["start_indices"], params["limit_indices"], strides, strict=True))
    axes = [axis for axis, bound in enumerate(bounds) if bound != (0, source.shape[axis], 1)]
    if not axes:
        graph.bind(equation.outputs[0], graph.full(source))
        return
    starts, ends, steps = (graph.ints(*(bounds[axis][i] for axis in axes)) for i in range(3))
    name = graph.op("Slice", graph.full(source), starts, ends, graph.ints(*axes), steps)
    graph.bind(equation.outputs[0], name)


def pad(graph: OnnxGraph, equation: Equation) -> None:
    source, fill = equation.inputs
    config = equation.params["padding_config"]
    if any(inner for _, _, inner in config):
        raise ExportError("pad between elements has no ONNX operator here.")
    name, boolean = graph.full(source), source.dtype == np.bool_  # onnxruntime pads no booleans
    if boolean:
        name = graph.cast(name, np.int32)
    value = graph.cast(graph.full(fill), np.int32) if boolean else graph.full(fill)
    pads = graph.ints(*(low for low, _, _ in config), *(high for _, high, _ in config))
    name = graph.op("Pad", name, pads, value)
    graph.bind(equation.outputs[0], graph.cast(name, np.bool_) if boolean else name)


def reduce(graph: OnnxGraph, equation: Equation) -> None:
    name, axes = graph.full(equation.inputs[0]), equation.params["axes"]
    result = _reduced(graph, REDUCTIONS[equation.name], name, equation.inputs[0], axes)
    graph.bind(equation.outputs[0], result)


def reduce_booleans(graph: OnnxGraph, equation: Equation) -> None:
    name = graph.cast(graph.full(equation.inputs[0]), np.int32)
    kind = "ReduceMax" if equation.name == "reduce_or" else "ReduceMin"
    result = _reduced(graph, kind, name, equation.inputs[0], equation.params["axes"])
    graph.bind(equation.outputs[0], graph.cast(result, np.bool_))


def _reduced(graph: OnnxGraph, kind: str, name: str, source: Value, axes: tuple[int, ...]) -> str:
    if len(source.shape) == 1:  # as of a matrix with one row: onnxruntime's WebGPU shaders need two axes
        return graph.reshape(graph.op(kind, graph.reshape(name, (1, -1)), graph.ints(1), keepdims=0), ())
    return graph.op(kind, name, graph.ints(*axes), keepdims=0)


def argmax(graph: OnnxGraph, equation: Equation) -> None:
    source, (axis,) = equation.inputs[0], equation.params["axes"]
    name = graph.full(source)
    if len(source.shape) == 1:
        result = graph.reshape(graph.op("ArgMax", graph.reshape(name, (1, -1)), axis=1, keepdims=0), ())
    else:
        result = graph.op("ArgMax", name, axis=axis, keepdims=0)
    graph.bind(equation.outputs[0], graph.cast(result, equation.outputs[0].dtype))


def gather(graph: OnnxGraph, equation: Equation) -> None:
    source, index = equation.inputs
    numbers = equation.params["dimension_numbers"]
    whole_rows = tuple(equation.params["slice_sizes"]) == (1, *source.shape[1:])
    along_first = numbers.collapsed_slice_dims == numbers.start_index_map == (0,)
    if not (along_first and whole_rows and index.shape[-1:] == (1,) and not numbers.operand_batching_dims):
        raise ExportError("gather of anything but rows has no ONNX operator here.")
    rows = graph.reshape(graph.full(index), index.shape[:-1])
    graph.bind(equation.outputs[0], graph.op("Gather", graph.full(source), rows, axis=0))


def scatter(graph: OnnxGraph, equation: Equation) -> None:
    """`x.at[i].set(row)` as a choice for each row: phones and browsers compute no ScatterND, or slowly."""
    source, index, row = equation.inputs
    numbers = equation.params["dimension_numbers"]
    if numbers.inserted_window_dims != (0,) or numbers.scatter_dims_to_operand_dims != (0,) or index.shape != (1,):
        raise ExportError("scatter to anything but one row has no ONNX operator here.")
    here = graph.op("Equal", graph.constant(np.arange(source.shape[0], dtype=index.dtype)), graph.full(index))
    here = graph.reshape(here, (-1, *[1] * (len(source.shape) - 1)))
    new = graph.reshape(graph.full(row), (1, *source.shape[1:]))
    graph.bind(equation.outputs[0], choose(graph, source.dtype, here, graph.full(source), new))


EMITTERS: dict[str, Emit] = {
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(REDUCTIONS, reduce),
    "argmax": argmax,
    "broadcast_in_dim": broadcast,
    "clamp": clamp,
    "concatenate": concatenate,
    "convert_element_type": convert,
    "expand_dims": reshape,
    "gather": gather,
    "integer_pow": integer_pow,
    "ne": not_equal,
    "pad": pad,
    "reduce_and": reduce_booleans,
    "reduce_or": reduce_booleans,
    "rem": remainder,
    "reshape": reshape,
    "rsqrt": reciprocal_root,
    "scatter": scatter,
    "select_n": select,
    "slice": slice_,
    "softmax": softmax,
    "split": split,
    "square": square,
    "squeeze": reshape,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
}
