"""ONNX operators for products, convolutions and norms."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetam_jax.errors import ExportError
from edgetam_jax.export.fold import Equation, Value, epsilon_of
from edgetam_jax.export.onnx_graph import OnnxGraph
from edgetam_jax.export.onnx_ops import Emit


def dot_general(graph: OnnxGraph, equation: Equation) -> None:
    left, right = equation.inputs
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]
    left_free = [axis for axis in range(len(left.shape)) if axis not in (*left_sum, *left_batch)]
    right_free = [axis for axis in range(len(right.shape)) if axis not in (*right_sum, *right_batch)]
    out = equation.outputs[0]
    last = tuple(left_sum) == (len(left.shape) - 1,) and not left_batch
    if last and len(right.shape) == 2 and len(left.shape) >= 2:  # x @ weights
        graph.bind(out, graph.op("MatMul", graph.full(left), _arranged(graph, right, [*right_sum, *right_free], None)))
        return
    batch = [left.shape[axis] for axis in left_batch]
    rows, columns = (math.prod(x.shape[axis] for axis in free) for x, free in ((left, left_free), (right, right_free)))
    summed = math.prod(left.shape[axis] for axis in left_sum)
    a = _arranged(graph, left, [*left_batch, *left_free, *left_sum], [*batch, rows, summed])
    b = _arranged(graph, right, [*right_batch, *right_sum, *right_free], [*batch, summed, columns])
    name = graph.op("MatMul", a, b)
    graph.bind(out, name if out.shape == (*batch, rows, columns) else graph.reshape(name, out.shape))


def _arranged(graph: OnnxGraph, x: Any, order: Sequence[int], shape: Sequence[int] | None) -> str:
    """Transposed to `order`, then reshaped; constants here and now."""
    if not isinstance(x, Value):
        array = np.transpose(x, order)
        return graph.constant(array if shape is None else array.reshape(shape))
    name = graph.transpose(graph.full(x), order)
    moved = [x.shape[axis] for axis in order]
    return name if shape is None or list(shape) == moved else graph.reshape(name, shape)


def conv_general(graph: OnnxGraph, equation: Equation) -> None:
    """`lax.conv_general_dilated` of [B, Y, X, I] with a kernel [k, k, I, O]."""
    x, kernel = equation.inputs
    params = equation.params
    numbers = params["dimension_numbers"]
    layouts = tuple(numbers.lhs_spec), tuple(numbers.rhs_spec), tuple(numbers.out_spec)
    plain = (*params["lhs_dilation"], *params["rhs_dilation"], params["batch_group_count"]) == (1, 1, 1, 1, 1)
    if layouts != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)) or not plain or isinstance(kernel, Value):
        raise ExportError("a convolution with this layout or dilation has no ONNX operator here.")
    (top, bottom), (left, right) = params["padding"]
    _conv(graph, x, kernel, equation.outputs[0], None, params["window_strides"], [top, left, bottom, right], 1)


def depthwise_conv(graph: OnnxGraph, equation: Equation) -> None:
    x, kernel, bias = equation.inputs
    out = equation.outputs[0]
    stride, pad = x.shape[-3] // out.shape[-3], kernel.shape[0] // 2
    _conv(graph, x, kernel, out, bias, (stride, stride), [pad] * 4, kernel.shape[-1])


def _conv(
    graph: OnnxGraph,
    x: Value,
    kernel: np.ndarray,
    out: Value,
    bias: np.ndarray | None,
    strides: Sequence[int],
    pads: Sequence[int],
    groups: int,
) -> None:
    name = graph.full(x)
    if len(x.shape) != 4:
        name = graph.reshape(name, (-1, *x.shape[-3:]))
    name = graph.op("Transpose", name, perm=[0, 3, 1, 2])
    inputs = [graph.constant(np.transpose(kernel, (3, 2, 0, 1)))] + ([] if bias is None else [graph.constant(bias)])
    shape = list(kernel.shape[:2])
    name = graph.op("Conv", name, *inputs, strides=list(strides), pads=pads, group=groups, kernel_shape=shape)
    name = graph.op("Transpose", name, perm=[0, 2, 3, 1])
    graph.bind(out, name if len(out.shape) == 4 else graph.reshape(name, out.shape))


def layer_norm(graph: OnnxGraph, equation: Equation) -> None:
    x, scale, bias = equation.inputs
    inputs = graph.full(x), graph.full(scale), graph.full(bias)
    name = graph.op("LayerNormalization", *inputs, axis=-1, epsilon=epsilon_of(equation))
    graph.bind(equation.outputs[0], name)


EMITTERS: dict[str, Emit] = {
    "conv_general_dilated": conv_general,
    "depthwise_conv": depthwise_conv,
    "dot_general": dot_general,
    "layer_norm": layer_norm,
}
