"""Tensors of a file to Flax parameters and back, by the table of `rules`, and all that is wrong with them."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from edgetam_jax.checkpoints.key_table import DROPPED, Drop, Entry, Layout, Spread, entry, original_key
from edgetam_jax.config import Config
from edgetam_jax.errors import CheckpointError
from edgetam_jax.model import param_shapes

Tensors = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# What a file for still images goes without.
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
_PREFIXES = {
    Layout.ORIGINAL: ("image_encoder.", "sam_mask_decoder."),
    Layout.HUGGING_FACE: ("vision_encoder.", "mask_decoder."),
    Layout.FLAX: ("image_encoder/", "sam_mask_decoder/"),
}
_FLOATS = ("float32", "float16", "bfloat16")


class Converted(NamedTuple):
    params: dict[str, Any]
    dropped: dict[str, tuple[str, ...]]  # reason to names


def layout_of(names: Iterable[str]) -> Layout | None:
    """Whose names these are; None if they are no EdgeTAM's."""
    names = tuple(names)
    votes = {layout: sum(name.startswith(prefixes) for name in names) for layout, prefixes in _PREFIXES.items()}
    best = max(votes, key=votes.__getitem__)
    return best if votes[best] else None


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by their paths, with slashes."""
    return dict(flatten_dict(tree, sep="/"))


def to_layout(params: Mapping[str, Any], layout: Layout) -> Tensors:
    """Parameters as the tensors of a file."""
    tensors: Tensors = {}
    rows: dict[str, dict[int, np.ndarray]] = {}
    for path, leaf in flat(params).items():
        found = _entry(original_key(path))
        value = np.asarray(leaf)
        if found.axes and layout is not Layout.FLAX:
            value = value.transpose(np.argsort(found.axes))
        if layout is not Layout.HUGGING_FACE:
            tensors[found.names(layout)[0]] = value
        elif found.spread is Spread.HALVES:
            tensors.update(zip(found.hugging_face, np.split(value, 2), strict=True))
        elif found.spread is Spread.ROW:
            rows.setdefault(found.hugging_face[0], {})[found.row] = value
        else:
            tensors.update(dict.fromkeys(found.hugging_face, value))
    tensors |= {name: np.concatenate([parts[i] for i in sorted(parts)]) for name, parts in rows.items()}
    return tensors | _fillers(tensors, layout)


def from_layout(tensors: Mapping[str, np.ndarray], layout: Layout, config: Config, source: str) -> Converted:
    """Float32 parameters from the tensors of a file; `CheckpointError` lists all that is wrong with them at once."""
    image_only = is_image_only(tensors, layout, config)
    shapes = tree_shapes(config, image_only)
    if problems := find_problems(tensors, layout, shapes):
        raise CheckpointError(describe(problems, source, layout))
    leaves = {}
    for path in flat(shapes):
        found = _entry(original_key(path))
        value = _gather(tensors, found, layout).astype(np.float32)
        turn = found.axes and layout is not Layout.FLAX
        leaves[path] = np.ascontiguousarray(value.transpose(found.axes) if turn else value)
    dropped: dict[str, list[str]] = {}
    for name in tensors:
        if drop := _drop(name, layout):
            dropped.setdefault(drop.reason, []).append(name)
    return Converted(unflatten_dict(leaves, sep="/"), {reason: tuple(names) for reason, names in dropped.items()})


@functools.cache
def tree_shapes(config: Config, image_only: bool = False) -> Mapping[str, Any]:
    """The parameter tree's shapes; for still images without the parts that only videos need."""
    if image_only:
        return {name: part for name, part in tree_shapes(config).items() if name not in VIDEO_PARTS}
    return param_shapes(config)


def expected_shapes(shapes: Mapping[str, Any], layout: Layout) -> Shapes:
    """The tensors that a file of `layout` holds for a tree of shapes."""
    blank = {path: np.broadcast_to(np.float32(0), leaf.shape) for path, leaf in flat(shapes).items()}
    return {name: value.shape for name, value in to_layout(unflatten_dict(blank, sep="/"), layout).items()}


def is_image_only(tensors: Iterable[str], layout: Layout, config: Config) -> bool:
    """Whether a file holds nothing of what only videos need."""
    everything = expected_shapes(tree_shapes(config), layout)
    still = expected_shapes(tree_shapes(config, image_only=True), layout)
    return (everything.keys() - still.keys()).isdisjoint(tensors)


def find_problems(tensors: Mapping[str, np.ndarray], layout: Layout, shapes: Mapping[str, Any]) -> dict[str, list[str]]:
    """All reasons not to take these tensors for a tree of shapes, by sort; empty if there are none."""
    expected = expected_shapes(shapes, layout)
    elsewhere = {name for other in Layout for name in expected_shapes(shapes, other)} - expected.keys()
    twins = _twins(shapes, layout)
    problems: dict[str, list[str]] = {}

    def report(sort: str, line: str) -> None:
        problems.setdefault(sort, []).append(line)

    for name in expected.keys() - tensors.keys():
        if not _drop(name, layout) and not any(twin in tensors for twin in twins.get(name, ())):
            report("missing", name)
    for name, value in tensors.items():
        if name not in expected:
            report("duplicate, present under the other layout's name" if name in elsewhere else "unexpected", name)
        elif _drop(name, layout):
            continue
        elif value.shape != expected[name]:
            report("wrong shape", f"{name} is {value.shape}, expected {expected[name]}")
        elif str(value.dtype) not in _FLOATS:
            report("wrong type", f"{name} is {value.dtype}, expected one of {', '.join(_FLOATS)}")
        elif bad := int(value.size - np.isfinite(value.astype(np.float32)).sum()):
            report("not finite", f"{name} has {bad} NaN or infinite of {value.size} values")
    for name, others in twins.items():
        for twin in others:
            if name < twin and name in tensors and twin in tensors and not _same(tensors[name], tensors[twin]):
                report("stored twice with different values", f"{name} and {twin}")
    return {sort: sorted(lines) for sort, lines in problems.items()}


def describe(problems: Mapping[str, list[str]], source: str, layout: Layout | None = None) -> str:
    whose = f" (with the names of {layout.value})" if layout else ""
    lines = [f"{source} is not a complete and sound EdgeTAM checkpoint{whose}; nothing was converted."]
    for sort, entries in problems.items():
        lines += [f"{sort} ({len(entries)}):", *(f"  {line}" for line in entries)]
    lines.append("Download the file again, or export it again from the program that wrote it.")
    return "\n".join(lines)


def _entry(key: str) -> Entry:
    found = entry(key)
    assert found is not None, key
    return found


def _gather(tensors: Mapping[str, np.ndarray], found: Entry, layout: Layout) -> np.ndarray:
    present = [tensors[name] for name in found.names(layout) if name in tensors]
    if layout is not Layout.HUGGING_FACE:
        return present[0]
    if found.spread is Spread.HALVES:
        return np.concatenate(present)
    if found.spread is Spread.ROW:
        return present[0][found.row : found.row + 1]
    return present[0]


def _fillers(tensors: Tensors, layout: Layout) -> Tensors:
    fillers: Tensors = {}
    for name, value in tensors.items():
        prefix, dot, last = name.rpartition(".")
        for drop in DROPPED:
            if last == drop.beside.get(layout):
                shape = [value.shape[-1] if length is None else length for length in drop.shape]
                fillers[prefix + dot + drop.names[layout]] = np.zeros(shape, drop.dtype)
    return fillers


def _drop(name: str, layout: Layout) -> Drop | None:
    last = name.rpartition(".")[2]
    return next((drop for drop in DROPPED if last == drop.names.get(layout)), None)


def _twins(shapes: Mapping[str, Any], layout: Layout) -> dict[str, tuple[str, ...]]:
    """Names under which a layout stores one and the same tensor, each with the others."""
    twins: dict[str, tuple[str, ...]] = {}
    for path in flat(shapes) if layout is Layout.HUGGING_FACE else ():
        found = _entry(original_key(path))
        if found.spread is Spread.SAME and len(found.hugging_face) > 1:
            for name in found.hugging_face:
                twins[name] = tuple(other for other in found.hugging_face if other != name)
    return twins


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.array_equal(a.astype(np.float32), b.astype(np.float32), equal_nan=True)
