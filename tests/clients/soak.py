"""All libraries that this machine has the tools for, one language after another; a part of ``make soak``."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tests.clients.libraries import LIBRARIES, Library
from tests.clients.page import DOCS, made, read, write
from tests.clients.scenario import RESUMES, Report, Scenario
from tests.clients.toolchains import browser, lacking, prepare

_TOOLS = {
    "js": ("Node.js", ["node", "--version"]),
    "python": ("Python", [sys.executable, "--version"]),
    "go": ("Go", ["go", "version"]),
    "rust": ("Rust", ["cargo", "--version"]),
    "java": ("OpenJDK", ["java", "--version"]),
}


def run() -> dict[str, Any]:
    """What came of each, by its program's name."""
    there = [library for library in LIBRARIES if not lacking(library)]
    for library in LIBRARIES:
        if library not in there:
            click.echo(f"{library.name} ({library.language}) is not tried: {lacking(library)} is missing", err=True)
    prepare(there)
    results: dict[str, Any] = {}
    for language in dict.fromkeys(library.language for library in there):
        click.echo(f"{language}:", err=True)
        group = [library for library in there if library.language == language]
        with tempfile.TemporaryDirectory() as folder:
            reports = Scenario(group, Path(folder), say=lambda text: click.echo(f"  {text}", err=True)).run()
        for library in group:
            report = reports[library.program]
            for complaint in report.complaints if faults(report) else []:
                click.echo(f"  {library.name}: {complaint}", err=True)
            results[library.program] = {
                "version": library.version or _version(library),
                "tool": _tool(library),
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                **{name: value for name, value in asdict(report).items() if name != "complaints"},
            }
    return results


def _version(library: Library) -> str:
    if library.program == "chromium":
        return _tool(library).split()[-1]
    return importlib.metadata.version(library.name)


def _tool(library: Library) -> str:
    """What runs it, with its version."""
    name, command = _TOOLS[library.language]
    if library.program == "chromium":
        name, command = "Chromium", [browser(), "--version"]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    number = re.search(r"\d+(\.\d+)+", said)
    return f"{name} {number[0] if number else said.strip()}"


def faults(report: Report) -> list[str]:
    """What Broker promises of a library that survives the loss of its connection."""
    found = [] if report.order == "yes" else [f"order: {report.order}"]
    if report.after["SIGKILL"] == RESUMES:
        found += [f"after {what}: {how}" for what, how in report.after.items() if how != RESUMES]
    return found


def main(page: bool) -> int:
    """Prints the page, or writes it; returns the number of faults."""
    results = run()
    if page:
        write(read() | results)
        click.echo(f"written: {DOCS / 'clients.md'}", err=True)
    else:
        click.echo(made(results))
    wrong = [
        f"{program}: {fault}"
        for program, result in results.items()
        for fault in faults(Report(order=result["order"], after=result["after"]))
    ]
    click.echo("\n".join(wrong), err=True)
    return len(wrong)
