"""Reports as JSON, and what tells weights apart."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgetam_jax.errors import ConfigError, FrameError, OutputError
from edgetam_jax.evaluation.measures import Statistics
from edgetam_jax.evaluation.provenance import PROVENANCE_FILE, claim_output_dir, fingerprint
from edgetam_jax.evaluation.reports import write_report
from edgetam_jax.model import Model
from tests.support.checkpoints import SMALL


def test_weights_are_told_apart() -> None:
    """By their values, their names and their shapes."""
    params = {"a": {"x": np.arange(6.0), "y": np.ones(2)}}
    others = [
        {"a": {"x": np.arange(6.0), "y": np.array([1, 1 + 1e-12])}},
        {"a": {"x": np.arange(6.0), "z": np.ones(2)}},
        {"a": {"x": np.arange(6.0).reshape(2, 3), "y": np.ones(2)}},
        {"b": params["a"]},
    ]
    prints = [fingerprint(Model(one, SMALL)) for one in (params, *others)]
    assert len(set(prints)) == 5 and all(len(one) == 64 for one in prints)
    same = {"a": {"y": np.ones(2), "x": np.arange(6.0)}}
    assert fingerprint(Model(same, SMALL)) == prints[0]


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    found = {"a": Statistics(0.5, float("nan"), 1.0), 3: [np.array([[1, 2]]), (True, None)], "text": "b"}
    write_report(tmp_path / "report.json", found)
    want = {"a": {"mean": 0.5, "recall": None, "decay": 1.0}, "3": [[[1, 2]], [True, None]], "text": "b"}
    assert json.loads((tmp_path / "report.json").read_text()) == want
    with pytest.raises(OutputError, match="exists"):
        write_report(tmp_path / "report.json", 1)
    write_report(tmp_path / "report.json", 1, force=True)
    assert (tmp_path / "report.json").read_text() == "1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_is_of_one_network(tmp_path: Path) -> None:
    """Another one changes nothing there, and hears which it was."""
    folder, settings = tmp_path / "new" / "masks", {"weights": "a", "network": {"image_size": 64, "sides": (1, 2)}}
    claim_output_dir(folder, ["bear"], settings, "mine.safetensors")
    (folder / "bear").mkdir()
    before = (folder / PROVENANCE_FILE).read_bytes()
    claim_output_dir(folder, ["bear", "cat"], settings, "elsewhere/mine.safetensors")
    for change, told in (
        ({"weights": "b"}, r"was made by mine.safetensors with weights a; now it is weights b\. Choose another output"),
        ({"network": {"image_size": 32, "sides": (1, 2)}}, "network.image_size 64; now it is network.image_size 32"),
        ({"clicks": 3}, "with clicks None; now it is clicks 3"),
    ):
        with pytest.raises(ConfigError, match=told):
            claim_output_dir(folder, ["bear"], settings | change, "other")
    assert (folder / PROVENANCE_FILE).read_bytes() == before and len(list(folder.iterdir())) == 2


def test_a_folder_of_unknown_origin_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "bear").mkdir()
    with pytest.raises(ConfigError, match=r"holds bear, but not .*delete that folder"):
        claim_output_dir(tmp_path, ["ant", "bear"], {}, "m")
    assert not (tmp_path / PROVENANCE_FILE).exists()
    claim_output_dir(tmp_path, ["ant"], {}, "m")  # bears are no result of this
    (tmp_path / PROVENANCE_FILE).write_text("[]")
    with pytest.raises(FrameError, match="is not what this program writes"):
        claim_output_dir(tmp_path, ["ant"], {}, "m")
    with pytest.raises(OutputError, match="nothing can be written to"):
        claim_output_dir(tmp_path / PROVENANCE_FILE, ["ant"], {}, "m")


def test_processes_claim_a_folder_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One while another is about to put its record in place, and one so late that another has a result by then."""
    replace, claims = os.replace, 0

    def interrupted(*paths: Path) -> None:
        nonlocal claims
        claims += 1
        if claims == 1:
            claim_output_dir(tmp_path, ["bear"], {"weights": "a"}, "m")
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupted)
    claim_output_dir(tmp_path, ["bear"], {"weights": "a"}, "m")
    assert claims == 2 and [path.name for path in tmp_path.iterdir()] == [PROVENANCE_FILE]

    def names() -> Iterator[str]:
        claim_output_dir(tmp_path / "late", ["bear"], {"weights": "a"}, "m")
        (tmp_path / "late" / "bear").mkdir()
        yield "bear"

    claim_output_dir(tmp_path / "late", names(), {"weights": "a"}, "m")
