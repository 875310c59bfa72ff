"""Prints the changelog's section for a tag, for the release workflow: python tools/release_notes.py v1.2.3

Fails if the tag is not the version in edgetam_jax/__init__.py, or if the changelog has no section for it.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    (tag,) = sys.argv[1:]
    version = read_version((ROOT / "edgetam_jax" / "__init__.py").read_text())
    if tag != f"v{version}":
        raise SystemExit(f"the tag is {tag}, but edgetam_jax.__version__ is {version}; the tag must be v{version}.")
    print(release_notes((ROOT / "CHANGELOG.md").read_text(), version))


def read_version(module: str) -> str:
    """The value of `__version__` in a module's source."""
    match = re.search(r'^__version__ = "([^"]+)"$', module, re.M)
    if not match:
        raise SystemExit("edgetam_jax/__init__.py does not define __version__.")
    return match[1]


def release_notes(changelog: str, version: str) -> str:
    """The text below the heading `## [version]`, up to the next heading of that level."""
    match = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    if not match or not match[1].strip():
        raise SystemExit(f"CHANGELOG.md has no section for {version}. Rename [Unreleased] to [{version}] - YYYY-MM-DD.")
    return match[1].strip()


if __name__ == "__main__":
    main()
