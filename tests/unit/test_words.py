"""Names are those of SAM 2, flax and optax: words that they replaced are in no identifier."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import ROOT

# In no identifier at all.
REPLACED = frozenset(
    """
    lesson take_lesson Lesson speak cost_of Course Topic _Words journal everywhere over_batch begin_memory imitation
    slope _go_on FREE Draws answer_all asked_on given_on Given Asked Detail Sighting sighting Looked looked
    with_memory without_memory if_needed at_once fenced _by_few _by_many note_found made_by Followed judge verdict
    BARS Seen Pace Studio _rehearse advance
    """.split()  # noqa: SIM905
)
# Usual English, so only refused as the name of a function or class.
DEFINITIONS = frozenset(
    """
    talk placement packing Way arrange hold Report Update whole follow respond remember accept keep note known nearest
    look find sight touch together blank alone Found Keep claim stamp
    """.split()  # noqa: SIM905
)
ALIASES = DEFINITIONS | {"programs"}  # refused as the alias of an import
MODULES = (REPLACED | DEFINITIONS) - {"packing"}  # refused as the name of a module
FOLDERS = ("edgetam_jax", "convert", "benchmarks", "tools", "recipes", "tests")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=alias):
                yield from (name.rpartition(".")[2], alias or "")


def definitions(tree: ast.AST) -> set[str]:
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def aliases(tree: ast.AST) -> set[str]:
    return {node.asname for node in ast.walk(tree) if isinstance(node, ast.alias) and node.asname}


@pytest.mark.parametrize("folder", FOLDERS)
def test_replaced_words_are_in_no_name(folder: str) -> None:
    trees = {path: ast.parse(path.read_text()) for path in FILES if path.is_relative_to(ROOT / folder)}
    found = {
        str(path.relative_to(ROOT)): sorted(
            (REPLACED & set(identifiers(tree)))
            | (DEFINITIONS & definitions(tree))
            | (ALIASES & aliases(tree))
            | (MODULES & {path.stem})
        )
        for path, tree in trees.items()
    }
    assert trees
    assert {path: words for path, words in found.items() if words} == {}


def test_replaced_words_are_found() -> None:
    tree = ast.parse("def talk(): ...\nlesson = keep(x.looked, slope=1)\nfrom a import Given as b")
    assert REPLACED & set(identifiers(tree)) == {"lesson", "looked", "slope", "Given"}
    assert DEFINITIONS & definitions(tree) == {"talk"}
    assert ALIASES & aliases(ast.parse("from a import session_jit as programs, b as c")) == {"programs"}


def test_recipes_use_optax_names() -> None:
    former = re.compile(r"^(rate|final_rate|clip|average|rates)\s*=|optimizer\.rates", re.M)
    recipes: list[Path] = sorted((ROOT / "recipes").rglob("*.toml"))
    assert recipes
    assert not [path.name for path in recipes if former.search(path.read_text())]
