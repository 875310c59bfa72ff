"""The version, the citation, the changelog and the workflows fit together."""

import re
from typing import Any

import pytest
import yaml

import edgetam_jax
from tests.support.pages import ROOT
from tools.release_notes import read_version, release_notes

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_version_has_one_source() -> None:
    source = (ROOT / "edgetam_jax" / "__init__.py").read_text()
    assert read_version(source) == edgetam_jax.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == edgetam_jax.__version__
    with pytest.raises(SystemExit, match="does not define __version__"):
        read_version("")


def test_release_notes_are_the_section_of_the_version() -> None:
    changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-02\n\n### Added\n\n- a\n\n## [1.1.0]\n\n- b\n"
    assert release_notes(changelog, "1.2.0") == "### Added\n\n- a"
    assert release_notes(changelog, "1.1.0") == "- b"
    for version in ("Unreleased", "1.3.0", "1x2.0"):
        with pytest.raises(SystemExit, match="has no section for"):
            release_notes(changelog, version)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(path: Any) -> None:
    used = re.findall(r"uses: (\S+)(.*)", path.read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
