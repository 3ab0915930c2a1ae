"""esbuild, which minifies the client as the builds of most pages do, for the tests of its size."""

from __future__ import annotations

import gzip
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.documents import ROOT

ESBUILD = ROOT / "tests" / "js" / "node_modules" / "esbuild" / "bin" / "esbuild"
_OPTIONS = ("--minify", "--format=esm", "--target=es2022")

needs_esbuild = pytest.mark.skipif(
    not ESBUILD.exists() and not os.environ.get("CI"),
    reason="THE CLIENT WAS NOT MEASURED: type make test where npm's registry can be reached",
)


def minified(source: str) -> str:
    """The source of one module, minified."""
    return subprocess.run(
        [str(ESBUILD), "--loader=js", *_OPTIONS], input=source, capture_output=True, text=True, check=True
    ).stdout


def compact(source: str, language: str = "js") -> str:
    """The source of one module, or of a style sheet (``css``), without comments and needless white space."""
    return subprocess.run(
        [str(ESBUILD), f"--loader={language}", "--minify-whitespace"],
        input=source,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def bundled(entry: Path, *external: str) -> str:
    """A module with all that it imports, but ``external``, as one module; only its comments are left out."""
    command = [str(ESBUILD), str(entry), "--bundle", "--format=esm", "--minify-whitespace"]
    command += [f"--external:{each}" for each in external]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def bundle_bytes(entry: Path, *external: str) -> int:
    """How many bytes a module has with all that it imports, minified and gzipped; ``external`` is left out."""
    command = [str(ESBUILD), str(entry), "--bundle", *_OPTIONS, *(f"--external:{each}" for each in external)]
    return len(gzip.compress(subprocess.run(command, capture_output=True, check=True).stdout))
