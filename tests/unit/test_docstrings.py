"""Docstrings of what users call: each parameter, field and returned value is described, and stays so."""

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import edgetam_jax

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Modules whose functions are for users of the package, besides what the pages show.
MODULES = (
    "convert.goldens",
    "convert.verify",
    "edgetam_jax.media.palette",
    "edgetam_jax.media.video_writer",
    "edgetam_jax.media.visualize",
    "edgetam_jax.training.recipe",
)
FILES = sorted(path for folder in ("edgetam_jax", "convert", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
SECTION = re.compile(r"^ *(Args|Attributes|Returns|Yields|Raises):$", re.MULTILINE)


def shown_names() -> Iterator[str]:
    """Names of the reference page, and those that the examples of the pages import."""
    for page in PAGES:
        text = page.read_text()
        yield from re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
        for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and re.match(r"edgetam_jax|convert\b", node.module or ""):
                    yield from (f"{node.module}.{alias.name}" for alias in node.names)


def resolve(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), attribute)


def public_objects() -> dict[str, Any]:
    """Functions and classes by their qualified names; those of modules, and of fields of configurations, included."""
    objects: list[Any] = []
    for name in (*shown_names(), *MODULES, *(f"edgetam_jax.{name}" for name in edgetam_jax.__all__)):
        value = resolve(name)
        if inspect.ismodule(value):
            members = [member for name, member in vars(value).items() if not name.startswith("_")]
            objects += [member for member in members if getattr(member, "__module__", "") == value.__name__]
        else:
            objects.append(value)
    objects = [value for value in objects if inspect.isfunction(value) or inspect.isclass(value)]
    objects += [part for value in objects for part in nested_dataclasses(value)]
    return {f"{value.__module__}.{value.__qualname__}": value for value in objects}


def nested_dataclasses(cls: Any) -> Iterator[type]:
    """Dataclasses of the package that are fields of a dataclass, as parts of a configuration are."""
    if not inspect.isclass(cls) or not dataclasses.is_dataclass(cls):
        return
    for hint in get_type_hints(cls).values():
        for part in (hint, *(inner for argument in get_args(hint) for inner in (argument, *get_args(argument)))):
            if inspect.isclass(part) and dataclasses.is_dataclass(part) and part.__module__.startswith("edgetam_jax"):
                yield part
                yield from nested_dataclasses(part)


def sections(docstring: str | None) -> dict[str, str]:
    """The text below each section's title."""
    parts = SECTION.split(inspect.cleandoc(docstring or ""))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def described(section: str) -> set[str]:
    """The names that a section describes: `size, fps: See above.` describes two."""
    entries = re.findall(r"^    (\*{0,2}\w+(?:, \w+)*):", section, re.MULTILINE)
    return {name.strip(" *") for entry in entries for name in entry.split(",")}


def lower_case(docstring: str | None) -> list[str]:
    """The entries whose descriptions begin with a lower-case word; values such as `uint8` or `x0` are no words."""
    found = sections(docstring)
    text = "\n".join(found.get(title, "") for title in ("Args", "Attributes", "Raises"))
    return re.findall(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*: [a-z]+)\b", text, re.MULTILINE)


def style_problems(tree: ast.AST) -> Iterator[str]:
    """Problems of all docstrings of a module, also of those that users do not see."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        docstring = ast.get_docstring(node)
        yield from (f"{node.name}: `{entry}` is lower case" for entry in lower_case(docstring))
        decorators = " ".join(ast.unparse(each) for each in node.decorator_list)
        if isinstance(node, ast.ClassDef) and "dataclass" in decorators and "Args" in sections(docstring):
            yield f"{node.name}: a dataclass has Attributes:, not Args:"


def parameters(function: Any) -> set[str]:
    return {name for name in inspect.signature(function).parameters if name not in ("self", "cls")}


def function_problems(function: Any) -> Iterator[str]:
    if not function.__doc__:
        yield "has no docstring"
        return
    found = sections(function.__doc__)
    names = described(found.get("Args", ""))
    if missing := parameters(function) - names:
        yield f"Args: lacks {sorted(missing)}"
    if unknown := names - parameters(function):
        yield f"Args: has {sorted(unknown)}, which are no parameters"
    if inspect.signature(function).return_annotation is not None and not {"Returns", "Yields"} & found.keys():
        yield "has neither Returns: nor Yields:"


def class_problems(cls: type) -> Iterator[str]:
    if not cls.__doc__:
        yield "has no docstring"
        return
    found = sections(cls.__doc__) | sections(cls.__dict__["__init__"].__doc__ if "__init__" in vars(cls) else None)
    names = described(found.get("Args", "")) | described(found.get("Attributes", ""))
    if dataclasses.is_dataclass(cls):
        expected = {field.name for field in dataclasses.fields(cls) if field.init}
    elif issubclass(cls, tuple):
        expected = set(getattr(cls, "_fields", ()))
    else:
        expected = parameters(cls) if "__init__" in vars(cls) else set()
    if missing := expected - names:
        yield f"Args: or Attributes: lack {sorted(missing)}"
    for name, member in vars(cls).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if name.startswith("_"):
            continue
        if isinstance(member, property) and not member.__doc__:
            yield f"{name} has no docstring"
        if inspect.isfunction(function) and function.__module__ == cls.__module__:
            yield from (f"{name} {problem}" for problem in function_problems(function))


def problems(value: Any) -> list[str]:
    return list(class_problems(value) if inspect.isclass(value) else function_problems(value))


OBJECTS = public_objects()


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_docstring(name: str) -> None:
    assert problems(OBJECTS[name]) == []


def test_style() -> None:
    found = {
        str(path.relative_to(ROOT)): problems
        for path in FILES
        if (problems := list(style_problems(ast.parse(path.read_text()))))
    }
    assert len(FILES) > 100
    assert found == {}


def test_all_public_names_are_checked() -> None:
    exported = [getattr(edgetam_jax, name) for name in edgetam_jax.__all__]
    callables = [value for value in exported if callable(value) and not inspect.ismodule(value)]
    assert len(callables) > 20
    assert all(any(value is checked for checked in OBJECTS.values()) for value in callables)
    assert {"Recipe", "OptimizerConfig", "TrunkConfig", "draw_prompts", "train"} <= {
        value.__name__ for value in OBJECTS.values()
    }


def _without_args(a: int, b: int) -> int:
    """Adds numbers.

    Args:
        a: The first.
        c: Not there.
    """
    return a + b


def _with_all(a: int, *rest: int) -> int:
    """Adds numbers.

    Args:
        a: The first.
        *rest: The others. What follows is no parameter:
            like: this.

    Returns:
        The sum.
    """
    return a + sum(rest)


@dataclasses.dataclass
class _Fields:
    """Numbers.

    Attributes:
        a: The first.
    """

    a: int
    b: int

    @property
    def double(self) -> int:
        return 2 * self.a

    def method(self, x: int) -> None: ...


def test_problems_are_found() -> None:
    assert problems(_with_all) == []
    assert problems(_without_args) == [
        "Args: lacks ['b']",
        "Args: has ['c'], which are no parameters",
        "has neither Returns: nor Yields:",
    ]
    assert problems(_Fields) == [
        "Args: or Attributes: lack ['b']",
        "double has no docstring",
        "method has no docstring",
    ]


def test_style_problems_are_found() -> None:
    tree = ast.parse(
        "@dataclasses.dataclass\n"
        "class Fields:\n"
        "    '''Numbers.\n\n    Args:\n        a: the first.\n        b: uint8 values.\n        c: Others.\n    '''\n"
        "def add(*a, **b):\n"
        "    '''Adds.\n\n    Args:\n        *a, **b: what to add.\n\n"
        "    Raises:\n        ValueError: if not.\n    '''\n"
    )
    assert list(style_problems(tree)) == [
        "Fields: `a: the` is lower case",
        "Fields: a dataclass has Attributes:, not Args:",
        "add: `*a, **b: what` is lower case",
        "add: `ValueError: if` is lower case",
    ]
