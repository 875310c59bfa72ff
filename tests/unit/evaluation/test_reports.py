"""Reports as JSON, and what tells weights apart."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgetam_jax.errors import OutputError
from edgetam_jax.evaluation.measures import Statistics
from edgetam_jax.evaluation.reports import fingerprint, write_report
from edgetam_jax.model import Model
from tests.checkpoints import SMALL


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
