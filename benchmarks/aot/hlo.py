"""Reads XLA's optimized HLO text: the kernels that a program launches, their bytes, and what they depend on."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .* \{$")
INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>\([^=]*?\)|\S+) (?P<op>[\w\-]+)\((?P<rest>.*)$"
)
CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|branch_computations|called_computations)=\{?((?:%[\w.\-]+(?:, )?)+)"
)
LOCATION = re.compile(r"^(\d+) \{file_name_id=(\d+) function_name_id=\d+ line=(\d+)")
FRAME = re.compile(r"^(\d+) \{file_location_id=(\d+)")
SHAPE = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")
BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "bf16": 2,
    "f16": 2,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}  # others: 4
# Instructions that start no kernel: they name, regroup or call.
NOT_LAUNCHED = {
    *("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "iota", "partition-id", "opt-barrier"),
    *("while", "conditional", "call", "async-start", "async-update", "async-done"),
    *("copy-start", "copy-done", "slice-start", "slice-done", "after-all"),
}
SEQUENCES = {"while", "conditional", "call", "async-start"}  # they run the computations that they call, in order
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast")


class Instruction(NamedTuple):
    name: str
    shape: str
    op: str
    operands: tuple[str, ...]
    called: tuple[str, ...]
    op_name: str  # the JAX operation that it comes from
    source: str  # file:line, where the program has it

    @property
    def bytes(self) -> int:
        """Of its result."""
        shapes = SHAPE.findall(self.shape)
        return sum(BYTES.get(kind, 4) * math.prod(map(int, filter(None, dims.split(",")))) for kind, dims in shapes)


class Kernel(NamedTuple):
    """One launch, or one fusion on a TPU."""

    instruction: Instruction
    bytes: int  # read and written, every operand once
    on_weights: bool  # depends on the model's parameters alone


class Program(NamedTuple):
    computations: dict[str, list[Instruction]]
    entry: str

    @classmethod
    def parse(cls, text: str) -> "Program":
        computations: dict[str, list[Instruction]] = {}
        entry, current, sources = "", None, _sources(text)
        for line in text.splitlines():
            if match := COMPUTATION.match(line):
                current = computations.setdefault(match["name"], [])
                entry = match["name"] if match["entry"] else entry
            elif line.startswith("}"):
                current = None
            elif current is not None and (match := INSTRUCTION.match(line)):
                current.append(_instruction(match, sources))
        return cls(computations, entry)

    def sequences(self) -> list[str]:
        """The computations whose instructions are launched one by one: the entry, loop bodies, branches."""
        found, todo = [], [self.entry]
        while todo:
            name = todo.pop()
            if name in found or name not in self.computations:
                continue
            found.append(name)
            todo += [called for one in self.computations[name] if one.op in SEQUENCES for called in one.called]
        return found

    def kernels(self, is_weight: re.Pattern[str]) -> Iterator[Kernel]:
        """All launches; parameters of the entry whose name matches `is_weight` are weights."""
        for name in self.sequences():
            instructions = self.computations[name]
            sizes = {one.name: one.bytes for one in instructions}
            varies: dict[str, bool] = {}  # does it depend on anything but weights and constants?
            for one in instructions:
                if one.op == "parameter":
                    varies[one.name] = name != self.entry or not is_weight.search(one.op_name)
                else:
                    varies[one.name] = any(varies.get(operand, False) for operand in one.operands)
                if one.op in NOT_LAUNCHED or one.op.endswith(("-start", "-done")):
                    continue
                moved = one.bytes + sum(sizes.get(operand, 0) for operand in set(one.operands))
                yield Kernel(one, moved, not varies[one.name])

    def collectives(self, computation: str | None = None) -> list[Instruction]:
        names = [computation] if computation else list(self.computations)
        return [one for name in names for one in self.computations[name] if one.op.startswith(COLLECTIVES)]


def _instruction(match: re.Match[str], sources: dict[str, str]) -> Instruction:
    rest = match["rest"]
    end = _closing_parenthesis(rest)
    attributes = rest[end:]
    called = [name.strip().lstrip("%") for group in CALLED.findall(attributes) for name in group.split(",")]
    return Instruction(
        name=match["name"],
        shape=match["shape"],
        op=match["op"],
        operands=tuple(re.findall(r"%([\w.\-]+)", rest[:end])),
        called=tuple(filter(None, called)),
        op_name=_attribute(attributes, r'op_name="([^"]*)"'),
        source=sources.get(_attribute(attributes, r"stack_frame_id=(\d+)"), ""),
    )


def _closing_parenthesis(text: str) -> int:
    """The index of the parenthesis that closes the operands."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return index
    return len(text)


def _attribute(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _sources(text: str) -> dict[str, str]:
    """The innermost line of Python of each stack frame, from the tables at the head of the module."""
    files = dict(re.findall(r'^(\d+) "([^"]*\.py)"$', text, re.M))
    locations, sources = {}, {}
    for line in text.splitlines():
        if match := LOCATION.match(line):
            locations[match[1]] = f"{files.get(match[2], '?')}:{match[3]}"
        elif match := FRAME.match(line):
            sources[match[1]] = locations.get(match[2], "")
    return sources
