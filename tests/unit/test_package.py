"""What is built from this repository holds what it should, and nothing else."""

import email
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from packaging.requirements import Requirement

import edgetam_jax
from tests.support.pages import PROJECT, ROOT

PACKAGES = ("edgetam_jax", "convert")
SUFFIXES = {".py", ".json", ".md", ".safetensors", ".typed"}
OF_SOURCES = {
    *PACKAGES,
    "tests",
    "benchmarks",
    "docs",
    "tools",
    "notebooks",
    "recipes",
    ".gitignore",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "SECURITY.md",
    "constraints.txt",
    "mkdocs.yml",
    "pyproject.toml",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The sources packed, and a wheel made of them; with the tools that are installed, so without a network."""
    out = tmp_path_factory.mktemp("built")
    no_network = {"PIP_NO_INDEX": "1", "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, env={**os.environ, **no_network}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def files_of(package: str) -> set[str]:
    """Its files in this repository."""
    every = (ROOT / package).rglob("*")
    return {str(f.relative_to(ROOT)) for f in every if f.is_file() and "__pycache__" not in f.parts}


def test_the_wheel_holds_the_packages_alone(built: pathlib.Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = f"edgetam_jax-{edgetam_jax.__version__}.dist-info"
    assert {name for name in names if name.startswith(about)} == {
        f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    code = {name for name in names if not name.startswith(about)}
    assert code == set.union(*map(files_of, PACKAGES))
    assert {pathlib.PurePath(name).suffix for name in code} <= SUFFIXES
    if (ROOT / "edgetam_jax/assets/nano.safetensors").exists():
        assert "edgetam_jax/assets/nano.safetensors" in code


def test_the_wheel_says_what_it_needs(built: pathlib.Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        about = email.message_from_bytes(archive.read(name))
    needed = map(Requirement, about.get_all("Requires-Dist", []))
    assert {each for each in needed if not each.marker} == set(map(Requirement, PROJECT["dependencies"]))
    assert set(about.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert about["Requires-Python"] == PROJECT["requires-python"]
    assert about["Description-Content-Type"] == "text/markdown"
    page = str(about.get_payload())
    assert "click an object once" in page and page.count("```") == (ROOT / "README.md").read_text().count("```")
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", page) if "://" not in link]  # files are not there


def test_the_sources_are_those_of_the_tests(built: pathlib.Path) -> None:
    (sources,) = built.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert {name.partition("/")[0] for name in names} == OF_SOURCES
    assert files_of("tests") <= names
    assert not [name for name in names if name.endswith((".pyc", ".whl"))]
