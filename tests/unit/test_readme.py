"""README.md and the pages in docs/ do what they say: their Python runs, their commands exist, their links lead on."""

import dataclasses
import inspect
import pathlib
import re
import shutil
import tomllib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import edgetam_jax
from edgetam_jax.checkpoints.api import save
from edgetam_jax.config import EDGETAM
from edgetam_jax.model import Model, param_shapes
from tests.support.pages import ROOT, blocks, check_command, commands, run_python
from tests.support.scene import MINIMAL

README = (ROOT / "README.md").read_text()
DOCS = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
PAGES = ["README.md", *(f"docs/{name}" for name in DOCS)]
HEIGHT, WIDTH, FRAMES = 180, 240, 3


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What the pages speak of: a checkpoint called edgetam, a folder called frames, and a photograph."""
    folder, rng = tmp_path_factory.mktemp("materials"), np.random.default_rng(0)

    def tensor(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        values = rng.normal(0, 0.3, shape.shape).astype(shape.dtype)
        return np.abs(values) + 0.1 if path[-1].key == "var" else values

    params = jax.tree_util.tree_map_with_path(tensor, param_shapes(MINIMAL))
    save(Model(params, MINIMAL), folder / "edgetam")
    (folder / "frames").mkdir()
    for path in ("photo.jpg", *(f"frames/{n:05}.jpg" for n in range(FRAMES))):
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(folder / path)
    return folder


@pytest.fixture
def folder(materials: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has the materials, and the hub has the checkpoint."""
    shutil.copytree(materials, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: "edgetam")


def test_python_of_the_readme_runs(folder: None) -> None:
    names = run_python(README, "README.md")
    assert names["refined"].shape == (1, HEIGHT, WIDTH)
    assert all(record["segmentation"].shape == (HEIGHT, WIDTH) for record in names["records"])
    assert names["masks"].shape == (FRAMES, 2, HEIGHT, WIDTH)
    assert names["mask"].shape == (HEIGHT, WIDTH)
    assert names["state"].frame == FRAMES
    assert names["mask_logits"].shape == (1, 1, HEIGHT, WIDTH)


def test_python_of_the_tour_runs(folder: None) -> None:
    names = run_python((ROOT / "docs" / "architecture.md").read_text(), "architecture.md")
    assert names["mask"].shape == (HEIGHT, WIDTH)
    assert names["smaller"].config.image_size == MINIMAL.image_size // 2
    assert np.isfinite(names["logits"]).all()


def without_work(function: Callable[..., Any]) -> Callable[..., None]:
    """Takes a recipe and a folder as `function` does; its own tests see to the rest."""

    def call(*args: Any, **kwargs: Any) -> None:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        assert pathlib.Path(given["recipe"].start).exists()

    return call


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DOCS if name != "architecture.md"])
def test_python_of_a_page_runs(name: str, folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "training.md":
        from edgetam_jax.training import trainer

        for function in (trainer.train, trainer.store_features):
            monkeypatch.setattr(trainer, function.__name__, without_work(function))
    page = (ROOT / "docs" / name).read_text()
    names = run_python(page, name)
    for call in calls(page):
        exec(compile(call, name, "exec"), names)


def calls(page: str) -> list[str]:
    """The code in the last column of tables that say what is called how there, and how here."""
    tables = re.findall(r"^\| there \| here \|\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.M)
    cells = [row.rpartition(" | ")[2] for table in tables for row in table.splitlines()]
    return [call for cell in cells for call in re.findall(r"`([^`]+)`", cell)]


def test_the_migration_table_is_found() -> None:
    found = calls((ROOT / "docs" / "migration.md").read_text())
    assert len(found) > 30
    assert "records = generator.generate(image)" in found


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    for words in commands((ROOT / page).read_text()):
        check_command(words)


def test_commands_are_found_and_checked() -> None:
    assert len(list(commands(README))) > 5
    for wrong in ("make nonsense", "python -m convert a", "edgetam-jax vos", "pip install .[x]", "cowsay hello"):
        with pytest.raises((AssertionError, SystemExit)):
            check_command(wrong.split())


@pytest.mark.parametrize("page", PAGES)
def test_recipes_can_be_read(page: str) -> None:
    from edgetam_jax.training.recipe import recipe_from_dict

    for block in blocks((ROOT / page).read_text()):
        if block.language == "toml":
            recipe_from_dict(tomllib.loads(block.text))


def test_the_page_of_datasets_has_the_defaults_of_augmentation() -> None:
    from edgetam_jax.data import PLAIN, Augment
    from edgetam_jax.training.recipe import recipe_from_dict

    page = (ROOT / "docs" / "datasets.md").read_text()
    usual, plain = [tomllib.loads(block.text) for block in blocks(page) if block.language == "toml"][-2:]
    assert usual["data"][0]["augment"].keys() == {field.name for field in dataclasses.fields(Augment)}
    assert [recipe_from_dict(values).data[0].augment for values in (usual, plain)] == [Augment(), PLAIN]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        linked = path.parent / target if target else path
        assert linked.exists(), link
        assert not anchor or anchor in headings(linked), link


def headings(page: pathlib.Path) -> set[str]:
    """As links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_sizes_are_the_networks() -> None:
    assert "1024, 768 and 512" in README
    assert EDGETAM.image_size == 1024


def test_every_page_is_in_the_menu() -> None:
    menu = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(menu) == DOCS


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "api.md").read_text()
    documented = set(re.findall(r"^::: edgetam_jax(?:\.segment|\.export\.api)?\.(\w+)$", reference, re.M)) - {"errors"}
    constants = {name for name in edgetam_jax.__all__ if name.isupper()}
    assert documented == set(edgetam_jax.__all__) - constants
    assert all(f"`{name}`" in reference for name in constants)
