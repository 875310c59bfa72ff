"""Tensors of a checkpoint to Flax parameters and back, by the rules of `key_table`, with all checks."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from edgetam_jax.checkpoints.key_table import (
    DROPPED_TENSORS,
    DroppedTensor,
    HFSplit,
    Layout,
    TensorRule,
    original_key,
    tensor_rule,
)
from edgetam_jax.config import Config
from edgetam_jax.errors import CheckpointError
from edgetam_jax.model import param_shapes

Tensors = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# Modules and parameters that only tracking needs. Checkpoints for still images do not have them.
VIDEO_PARTS = frozenset(
    {
        "mask_downsample",
        "maskmem_tpos_enc",
        "memory_attention",
        "memory_encoder",
        "no_obj_ptr",
        "obj_ptr_proj",
        "spatial_perceiver",
    }
)
_KEY_PREFIXES = {
    Layout.ORIGINAL: ("image_encoder.", "sam_mask_decoder."),
    Layout.HUGGING_FACE: ("vision_encoder.", "mask_decoder."),
    Layout.FLAX: ("image_encoder/", "sam_mask_decoder/"),
}
_FLOATS = ("float32", "float16", "bfloat16")


class Converted(NamedTuple):
    params: dict[str, Any]
    dropped: dict[str, tuple[str, ...]]  # reason -> names of tensors
    image_only: bool


def detect_layout(names: Iterable[str]) -> Layout | None:
    """The layout that most of these tensor names belong to; None if they are not those of an EdgeTAM."""
    names = tuple(names)
    votes = {layout: sum(name.startswith(prefixes) for name in names) for layout, prefixes in _KEY_PREFIXES.items()}
    best = max(votes, key=votes.__getitem__)
    return best if votes[best] else None


def flatten_params(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a tree by their paths, with slashes."""
    return dict(flatten_dict(tree, sep="/"))


def from_layout(tensors: Mapping[str, np.ndarray], layout: Layout, config: Config, source: str) -> Converted:
    """Converts the tensors of a checkpoint to float32 parameters; `CheckpointError` lists all problems at once."""
    image_only = is_image_only(tensors, layout, config)
    shapes = tree_shapes(config, image_only)
    if problems := find_problems(tensors, layout, shapes):
        raise CheckpointError(format_problems(problems, source, layout))
    leaves = {path: _to_leaf(tensors, path, layout) for path in flatten_params(shapes)}
    return Converted(unflatten_dict(leaves, sep="/"), _list_dropped(tensors, layout), image_only)


def _to_leaf(tensors: Mapping[str, np.ndarray], path: str, layout: Layout) -> np.ndarray:
    """The parameter at a Flax path."""
    rule = _rule_of(path)
    parts = [tensors[key] for key in rule.keys(layout) if key in tensors]
    value = parts[0]
    if layout is Layout.HUGGING_FACE and rule.split is HFSplit.HALVES:
        value = np.concatenate(parts)
    elif layout is Layout.HUGGING_FACE and rule.split is HFSplit.ROW:
        value = value[rule.row : rule.row + 1]
    value = value.astype(np.float32)
    return np.ascontiguousarray(value.transpose(rule.axes) if rule.axes and layout is not Layout.FLAX else value)


def _list_dropped(tensors: Iterable[str], layout: Layout) -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {}
    for name in tensors:
        if dropped := _find_dropped(name, layout):
            names.setdefault(dropped.reason, []).append(name)
    return {reason: tuple(group) for reason, group in names.items()}


def to_layout(params: Mapping[str, Any], layout: Layout) -> Tensors:
    """Converts parameters to the tensors of a checkpoint."""
    tensors: Tensors = {}
    rows: dict[str, dict[int, np.ndarray]] = {}
    for path, leaf in flatten_params(params).items():
        rule = _rule_of(path)
        value = np.asarray(leaf)
        if rule.axes and layout is not Layout.FLAX:
            value = value.transpose(np.argsort(rule.axes))
        if layout is not Layout.HUGGING_FACE:
            tensors[rule.keys(layout)[0]] = value
        elif rule.split is HFSplit.HALVES:
            tensors.update(zip(rule.hugging_face, np.split(value, 2), strict=True))
        elif rule.split is HFSplit.ROW:
            rows.setdefault(rule.hugging_face[0], {})[rule.row] = value
        else:
            tensors.update(dict.fromkeys(rule.hugging_face, value))
    tensors |= {key: np.concatenate([parts[i] for i in sorted(parts)]) for key, parts in rows.items()}
    return tensors | _zeros_for_dropped(tensors, layout)


@functools.cache
def tree_shapes(config: Config, image_only: bool = False) -> Mapping[str, Any]:
    """The shapes of the parameter tree; with `image_only` without the parts that only tracking needs."""
    if image_only:
        return {name: part for name, part in tree_shapes(config).items() if name not in VIDEO_PARTS}
    return param_shapes(config)


def expected_shapes(shapes: Mapping[str, Any], layout: Layout) -> Shapes:
    """The names and shapes of the tensors in a checkpoint of this layout, for a tree of shapes."""
    zeros = {path: np.broadcast_to(np.float32(0), leaf.shape) for path, leaf in flatten_params(shapes).items()}
    return {name: value.shape for name, value in to_layout(unflatten_dict(zeros, sep="/"), layout).items()}


def is_image_only(tensors: Iterable[str], layout: Layout, config: Config) -> bool:
    """Whether a checkpoint has none of the tensors that only tracking needs."""
    video = expected_shapes(tree_shapes(config), layout)
    image = expected_shapes(tree_shapes(config, image_only=True), layout)
    return (video.keys() - image.keys()).isdisjoint(tensors)


def find_problems(tensors: Mapping[str, np.ndarray], layout: Layout, shapes: Mapping[str, Any]) -> dict[str, list[str]]:
    """All reasons why these tensors cannot be converted to a tree of shapes, by category; empty if there are none."""
    expected = expected_shapes(shapes, layout)
    other_names = {name for other in Layout for name in expected_shapes(shapes, other)} - expected.keys()
    aliases = _aliases(shapes, layout)
    problems: dict[str, list[str]] = {}

    def add(category: str, line: str) -> None:
        problems.setdefault(category, []).append(line)

    for name in expected.keys() - tensors.keys():
        if not _find_dropped(name, layout) and not any(alias in tensors for alias in aliases.get(name, ())):
            add("missing", name)
    for name, value in tensors.items():
        if name not in expected:
            add("duplicate, present under the other layout's name" if name in other_names else "unexpected", name)
        elif _find_dropped(name, layout):
            continue
        elif value.shape != expected[name]:
            add("wrong shape", f"{name} is {value.shape}, expected {expected[name]}")
        elif str(value.dtype) not in _FLOATS:
            add("wrong type", f"{name} is {value.dtype}, expected one of {', '.join(_FLOATS)}")
        elif count := int(value.size - np.isfinite(value.astype(np.float32)).sum()):
            add("not finite", f"{name} has {count} NaN or infinite of {value.size} values")
    for name, others in aliases.items():
        for alias in others:
            if name < alias and name in tensors and alias in tensors and not _equal(tensors[name], tensors[alias]):
                add("stored twice with different values", f"{name} and {alias}")
    return {category: sorted(lines) for category, lines in problems.items()}


def format_problems(problems: Mapping[str, list[str]], source: str, layout: Layout | None = None) -> str:
    naming = f" (with the names of {layout.value})" if layout else ""
    lines = [f"{source} is not a complete and valid EdgeTAM checkpoint{naming}; nothing was converted."]
    for category, entries in problems.items():
        lines += [f"{category} ({len(entries)}):", *(f"  {line}" for line in entries)]
    lines.append("Download the file again, or export it again from the program that wrote it.")
    return "\n".join(lines)


def _rule_of(flax_path: str) -> TensorRule:
    rule = tensor_rule(original_key(flax_path))
    assert rule is not None, flax_path
    return rule


def _zeros_for_dropped(tensors: Tensors, layout: Layout) -> Tensors:
    zeros: Tensors = {}
    for name, value in tensors.items():
        prefix, dot, last = name.rpartition(".")
        for dropped in DROPPED_TENSORS:
            if last == dropped.neighbors.get(layout):
                shape = [value.shape[-1] if length is None else length for length in dropped.shape]
                zeros[prefix + dot + dropped.names[layout]] = np.zeros(shape, dropped.dtype)
    return zeros


def _find_dropped(name: str, layout: Layout) -> DroppedTensor | None:
    last = name.rpartition(".")[2]
    return next((dropped for dropped in DROPPED_TENSORS if last == dropped.names.get(layout)), None)


def _aliases(shapes: Mapping[str, Any], layout: Layout) -> dict[str, tuple[str, ...]]:
    """For each tensor that a layout stores under several names: name -> the other names."""
    aliases: dict[str, tuple[str, ...]] = {}
    for path in flatten_params(shapes) if layout is Layout.HUGGING_FACE else ():
        rule = _rule_of(path)
        if rule.split is HFSplit.SAME and len(rule.hugging_face) > 1:
            for name in rule.hugging_face:
                aliases[name] = tuple(other for other in rule.hugging_face if other != name)
    return aliases


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.array_equal(a.astype(np.float32), b.astype(np.float32), equal_nan=True)
