"""TypeScript's compiler, for the tests of what is written for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.documents import ROOT

TYPESCRIPT = ROOT / "tests" / "clients" / "js" / "node_modules" / "typescript" / "bin" / "tsc"

needs_typescript = pytest.mark.skipif(
    not TYPESCRIPT.exists() and not os.environ.get("CI"),
    reason="NOTHING WAS COMPILED BY TYPESCRIPT: type make test where npm's registry can be reached",
)


def compiled(folder: Path, *arguments: str) -> str:
    """What the compiler says about files of the folder; nothing if it accepts them."""
    command = ["node", str(TYPESCRIPT), "--strict", "--noEmit", "--target", "es2022", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (result.returncode == 0) == (result.stdout == ""), result.stderr
    return result.stdout
