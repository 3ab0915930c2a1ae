"""Installs and builds what the programs need, in a cache; for ``make soak``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable

from tests.clients.libraries import CACHE, HERE, LIBRARIES, Library

TOOLS = {
    "js": ("node", "npm"),
    "python": (),
    "go": ("go",),
    "rust": ("cargo",),
    "java": ("java", "javac", "mvn"),
}


def browser() -> str:
    """Chromium's program; empty if there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")


def lacking(library: Library) -> str:
    """The programs that this machine would need, and does not have."""
    if library.program == "chromium":
        return "" if browser() else "chromium"
    return ", ".join(tool for tool in TOOLS[library.language] if shutil.which(tool) is None)


def prepare(libraries: Iterable[Library]) -> None:
    """Of all whose tools are here."""
    wanted = list(libraries)
    for library in wanted:
        if library.needs:
            _install_python(library)
    for language, build in (("go", _build_go), ("rust", _build_rust), ("java", _build_java)):
        if any(library.language == language for library in wanted):
            build()


def _install_python(library: Library) -> None:
    """In a folder of its own: two of them are modules of the same name."""
    folder = CACHE / "python" / library.program
    done = folder / ".installed"
    if not done.exists() or done.read_text() != str(library.needs):
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder),
              *library.needs], "python")  # fmt: skip
        done.write_text(str(library.needs))


def _build_go() -> None:
    programs = [f"./{library.program}" for library in LIBRARIES if library.language == "go"]
    (CACHE / "go").mkdir(parents=True, exist_ok=True)
    _run(["go", "build", "-o", f"{CACHE / 'go'}/", *programs], "go")


def _build_rust() -> None:
    target = CACHE / "rust"
    _run(["cargo", "build", "--quiet", "--release", "--target-dir", str(target)], "rust")


def _build_java() -> None:
    folder = CACHE / "java"
    libraries = folder / "libraries"
    if not libraries.exists():
        _run(
            ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", f"-DoutputDirectory={libraries}"], "java"
        )
    sources = [str(source) for source in (HERE / "java").glob("*.java")]
    _run(["javac", "-d", str(folder / "classes"), "-cp", f"{libraries}/*", *sources], "java")


def _run(command: list[str], folder: str) -> None:
    print(" ".join(command[:4]), "…", file=sys.stderr)
    subprocess.run(command, cwd=HERE / folder, check=True)
