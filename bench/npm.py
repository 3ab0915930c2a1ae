"""Packages of npm, and esbuild, which makes one file of what a page imports."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.errors import BenchError

ESBUILD = {"esbuild": "0.28.2"}
INSTALL_S, BUNDLE_S = 300, 60


def install(folder: Path, packages: dict[str, str]) -> None:
    """By exact versions, and without the scripts that packages want to run."""
    options = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--legacy-peer-deps")
    exact = (f"{name}@{version}" for name, version in packages.items())
    _run(INSTALL_S, "npm", "install", "--prefix", str(folder), *options, *exact)


def bundle(folder: Path, entry: Path, *options: str) -> bytes:
    """The file with all that it imports but React, by the esbuild that is installed in the folder."""
    command = [str(folder / "node_modules" / ".bin" / "esbuild"), str(entry), "--bundle", *options]
    command += ["--format=esm", "--platform=browser", "--target=es2022", '--define:process.env.NODE_ENV="production"']
    return _run(BUNDLE_S, *command, "--external:react", "--external:react-dom", "--external:react/*")


def _run(seconds: int, *command: str) -> bytes:
    if shutil.which(command[0]) is None:
        raise BenchError(f"there is no {command[0]}: type make bench, which installs Node.js and npm")
    done = subprocess.run(command, capture_output=True, timeout=seconds)
    if done.returncode:
        raise BenchError(f"{command[0]}: {done.stderr.decode(errors='replace').strip()[:500]}")
    return done.stdout
