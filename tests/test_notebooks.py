"""The notebooks run from top to bottom in an empty folder, and are committed without what they printed."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


LONG = {"known_orderings"}  # its sweeps have four claims times five seeds
MARKED = [pytest.param(path, marks=pytest.mark.rare) if path.stem in LONG else path for path in NOTEBOOKS]


@pytest.mark.slow
@pytest.mark.parametrize("path", MARKED, ids=lambda path: path.stem)
def test_a_notebook_runs_from_an_empty_folder(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, 4)
    client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=dict(os.environ))
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert list((tmp_path / "outputs").glob("distill/*/done.json"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert "pip" in notebook.cells[1].source  # the first code cell installs kdlab where it is missing
