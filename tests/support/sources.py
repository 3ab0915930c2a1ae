"""A copy of what a distribution is built from: other tests make and remove files in the folder of the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.documents import ROOT


def copy_sources(folder: Path) -> Path:
    """Copies them into a new folder, and returns it."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder
