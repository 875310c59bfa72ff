"""What pages of documentation hold, and how it is tried: Python blocks run in order, commands are parsed."""

import argparse
import importlib
import pathlib
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PROGRAMS = r"(?:[A-Z_]+=\S+ )*(?:edgetam-jax|python|make|pip|pytest) "


class Block(NamedTuple):
    language: str
    text: str
    line: int  # of the page, counted from 1


def blocks(page: str) -> list[Block]:
    """What stands between fences."""
    found = re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", page, re.M | re.S)
    return [Block(match[1], match[2], page[: match.start(2)].count("\n") + 1) for match in found]


def run_python(page: str, name: str) -> dict[str, Any]:
    """Runs a page's blocks of Python one after the other; returns the names that they leave behind."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's line
            exec(compile(source, name, "exec"), names)
    return names


def commands(page: str) -> Iterator[list[str]]:
    """Every line of a block marked sh, and those of unmarked blocks that begin with a program."""
    for language, text, _ in blocks(page):
        if language in ("", "sh"):
            for line in text.replace("\\\n", " ").splitlines():
                line = re.sub(r"(^|\s+)#.*", "", line).strip()
                if line and (language == "sh" or re.match(PROGRAMS, line + " ")):
                    yield shlex.split(line)


class _Parsed(Exception):  # noqa: N818
    """A command's arguments were accepted; it goes no further."""


def check_command(words: Sequence[str]) -> None:
    """A command with these arguments exists; none is carried out."""
    while "=" in words[0]:
        words = words[1:]
    program, *rest = words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        missing = [target for target in rest if not re.search(rf"^{target}:", makefile, re.M)]
        assert not missing, f"make has no {missing}"
    elif program == "pip":
        _check_pip(rest)
    elif program == "pytest":
        assert all((ROOT / path).exists() for path in rest if not path.startswith("-")), rest
    elif program == "edgetam-jax":
        _check_arguments("edgetam_jax.cli.main", rest)
    elif program == "python" and rest[0] == "-m":
        module = rest[1] if rest[1] != "convert" else "convert.__main__"
        _check_arguments(module, rest[2:])
    else:
        raise AssertionError(f"no rule says how to check: {shlex.join(words)}")


def _check_pip(rest: Sequence[str]) -> None:
    assert rest[0] == "install", rest
    for requirement in rest[1:]:
        match = re.fullmatch(r"(?:edgetam-jax|\.)(?:\[(.*)\])?", requirement)
        assert match, f"not this project: {requirement}"
        unknown = set((match[1] or "").split(",")) - {"", *PROJECT["optional-dependencies"]}
        assert not unknown, f"no extras {unknown}"


def _check_arguments(module: str, rest: Sequence[str]) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        parse(parser, *args, **kwargs)
        raise _Parsed

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_only),
        mock.patch("sys.argv", [module, *rest]),
    ):
        try:
            if importlib.import_module(module).main() == 0 and list(rest) == ["--help"]:
                return
        except _Parsed:
            return
    raise AssertionError(f"{module} did not parse its arguments: {rest}")
