"""A graph of ONNX operators under construction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgetam_jax.errors import ExportError
from edgetam_jax.export.fold import Value
from edgetam_jax.export.onnx_tables import as_products

TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.bool_): TensorProto.BOOL,
}


def onnx_type(dtype: Any) -> int:
    dtype = np.dtype(dtype)
    if dtype not in TYPES:
        raise ExportError(f"the program has arrays of {dtype}; expected one of {', '.join(map(str, TYPES))}.")
    return TYPES[dtype]


class OnnxGraph:
    """Nodes, constants and the name that each value has.

    A broadcast is not computed where it is written: its value has a narrow form, with axes of 1, which elementwise
    operators take as it is. Equal constants and equal nodes are stored once.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self._forms: dict[Value, tuple[str, tuple[int, ...]]] = {}  # name and shape, narrow or full
        self._constants: dict[tuple[Any, ...], str] = {}
        self._made: dict[tuple[Any, ...], list[str]] = {}
        self._reshaped: dict[str, str] = {}  # what a reshape was made from

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, or the output of an equal node."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """A node with `count` outputs."""
        key = (kind, inputs, count, repr(sorted(attributes.items())))
        if key not in self._made:
            outputs = [f"{kind.lower()}_{len(self.nodes)}" + (f"_{i}" if count > 1 else "") for i in range(count)]
            self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
            self._made[key] = outputs
        return self._made[key]

    def constant(self, values: Any, dtype: Any = None) -> str:
        array = np.asarray(values, dtype)
        onnx_type(array.dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = name
            self.initializers[name] = np.array(array, order="C")
        return self._constants[key]

    def table(self, array: np.ndarray) -> str:
        """A constant; position tables as products."""
        products = as_products(array)
        if products is None:
            return self.constant(array)
        terms = [self.op("Mul", self.constant(column), self.constant(row)) for column, row in products]
        name = terms[0] if len(terms) == 1 else self.op("Add", *terms)
        return name if array.ndim == 3 else self.reshape(name, array.shape)

    def ints(self, *values: int) -> str:
        """Shapes and axes, as operators take them."""
        return self.constant(np.array(values, np.int64))

    def bind(self, value: Value, name: str, shape: Sequence[int] | None = None) -> None:
        """Names a value; `shape` is that of its narrow form."""
        self._forms[value] = name, tuple(value.shape if shape is None else shape)

    def full(self, x: Any) -> str:
        """The name of a value or constant in its full shape."""
        if not isinstance(x, Value):
            return self.table(np.asarray(x))
        name, shape = self._forms[x]
        if shape != x.shape:
            name = self.op("Expand", name, self.ints(*x.shape))
            self.bind(x, name)
        return name

    def narrow(self, x: Any) -> tuple[str, tuple[int, ...]]:
        """The name and shape of a form of the same rank that broadcasts to the value."""
        if isinstance(x, Value):
            return self._forms[x]
        array = narrowed(np.asarray(x))
        return self.table(array), array.shape

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """Of a chain of reshapes, only the last is needed."""
        source = self._reshaped.get(name, name)
        result = self.op("Reshape", source, self.ints(*shape))
        self._reshaped[result] = source
        return result

    def transpose(self, name: str, order: Sequence[int]) -> str:
        return name if list(order) == list(range(len(order))) else self.op("Transpose", name, perm=list(order))

    def cast(self, name: str, dtype: Any) -> str:
        return self.op("Cast", name, to=onnx_type(dtype))

    def finish(self, outputs: Mapping[str, str]) -> None:
        """Gives outputs their names, and drops what they do not need."""
        renamed: dict[str, str] = {}
        made = {name for node in self.nodes for name in node.output}
        for output, name in outputs.items():
            if name in made and name not in renamed:
                renamed[name] = output
            else:  # an input, a constant, or the same array as another output
                self.nodes.append(helper.make_node("Identity", [name], [output]))
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [renamed.get(name, name) for name in names]
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        self.nodes = kept[::-1]
        self.initializers = {name: array for name, array in self.initializers.items() if name in needed}

    def value_info(self, name: str, x: Any) -> Any:
        return helper.make_tensor_value_info(name, onnx_type(x.dtype), list(x.shape))

    def tensors(self) -> list[TensorProto]:
        return [numpy_helper.from_array(array, name) for name, array in self.initializers.items()]


def narrowed(array: np.ndarray) -> np.ndarray:
    """The array with one element along every axis on which all elements are equal."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array
