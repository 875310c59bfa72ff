"""Rules for the files of this repository: their length, and that `make test-all` runs every test."""

import re
from pathlib import Path

import pytest

from tests.support.pages import ROOT

LENGTHS = {"edgetam_jax": 300, "convert": 300, "benchmarks": 300, "tools": 300, "recipes": 300, "tests": 400}


@pytest.mark.parametrize(("folder", "longest"), LENGTHS.items())
def test_no_file_is_too_long(folder: str, longest: int) -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files(folder)}
    assert lengths
    assert {path: length for path, length in lengths.items() if length > longest} == {}


def test_test_all_runs_every_folder() -> None:
    target = re.search(r"^test-all:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert target
    folders = {"/".join(path.relative_to(ROOT).parts[:2]) for path in python_files("tests") if path.match("test_*.py")}
    assert len(folders) >= 4
    assert folders - set(target[1].split()) == set()


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))
