"""How an ONNX model stores its weights: as half floats, or as integers with a scale for each output channel.

The arithmetic stays float32: nodes in front of the weights turn them back, which onnxruntime does once when it loads.
"""

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

SMALLEST = 512  # elements; smaller constants, such as biases, stay float32
LARGEST_HALF = 65504.0
LEVELS = 127


def store_weights(model: ModelProto, weights: str) -> ModelProto:
    """The model with its large constants in another type: "float32" (as they are), "float16" or "int8"."""
    if weights == "float32":
        return model
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    channels = _output_channels(model) if weights == "int8" else {}
    tensors, nodes = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < SMALLEST or np.abs(array).max() > LARGEST_HALF:
            tensors.append(tensor)
        elif tensor.name in channels:
            stored, node = _quantized(array, tensor.name, channels[tensor.name])
            tensors += stored
            nodes.append(node)
        else:
            tensors.append(numpy_helper.from_array(array.astype(np.float16), f"{tensor.name}_half"))
            nodes.append(helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=1))
    kept = [*nodes, *model.graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(kept)
    return result


def _output_channels(model: ModelProto) -> dict[str, int]:
    """The axis of output channels of each constant that is used as a weight and as nothing else."""
    used: dict[str, set[int | None]] = {}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            used.setdefault(name, set()).add(_channel_axis(node, position))
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    axes = {name: axis for name, found in used.items() if len(found) == 1 and (axis := next(iter(found))) is not None}
    return {name: axis % len(shapes[name]) for name, axis in axes.items() if len(shapes.get(name, ())) in (2, 4)}


def _channel_axis(node: NodeProto, position: int) -> int | None:
    if node.op_type == "MatMul" and position == 1:
        return -1
    return 0 if node.op_type == "Conv" and position == 1 else None


def _quantized(array: np.ndarray, name: str, axis: int) -> tuple[list, NodeProto]:
    others = tuple(each for each in range(array.ndim) if each != axis)
    largest = np.abs(array).max(others, keepdims=True)
    scale = np.where(largest > 0, largest, 1).astype(np.float32) / LEVELS
    integers = np.clip(np.round(array / scale), -LEVELS, LEVELS).astype(np.int8)
    stored = [
        numpy_helper.from_array(integers, f"{name}_int8"),
        numpy_helper.from_array(scale.reshape(-1), f"{name}_scale"),
    ]
    node = helper.make_node("DequantizeLinear", [each.name for each in stored], [name], axis=axis)
    return stored, node
