"""TypeScript's compiler, for the tests of what is written for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.documents import ROOT

TYPESCRIPT = ROOT / "tests" / "clients" / "js" / "node_modules" / "typescript" / "bin" / "tsc"

needs_typescript = pytest.mark.skipif(
    not TYPESCRIPT.exists() and not os.environ.get("CI"),
    reason="NOTHING WAS COMPILED BY TYPESCRIPT: type make test where npm's registry can be reached",
)

_REACT_TYPES = ROOT / "tests" / "js" / "react" / "node_modules" / "@types"
needs_react = pytest.mark.skipif(
    not _REACT_TYPES.exists() and not os.environ.get("CI"),
    reason="NOTHING OF REACT WAS COMPILED: type make test where npm's registry can be reached",
)
# As the projects that Vite makes.
STRICT = (
    "--lib",
    "es2023,dom,dom.iterable",
    "--module",
    "esnext",
    "--moduleResolution",
    "bundler",
    "--jsx",
    "react-jsx",
)


def install(folder: Path) -> None:
    """Puts the client and the types of React into a project, as npm would do."""
    package = folder / "node_modules" / "zerocode-broker"
    shutil.copytree(ROOT / "src" / "broker" / "js", package)
    (folder / "node_modules" / "@types").symlink_to(_REACT_TYPES)


def compiled(folder: Path, *arguments: str) -> str:
    """What the compiler says about files of the folder; nothing if it accepts them."""
    command = ["node", str(TYPESCRIPT), "--strict", "--noEmit", "--target", "es2022", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (result.returncode == 0) == (result.stdout == ""), result.stderr
    return result.stdout
