"""All libraries that this machine has the tools for, one language after another; a part of ``make soak``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tests.clients.libraries import LIBRARIES
from tests.clients.page import DOCS, made, read, write
from tests.clients.scenario import RESUMES, Report, Scenario
from tests.clients.toolchains import lacking, prepare

_VERSIONS = {
    "js": ["node", "--version"],
    "python": [sys.executable, "--version"],
    "go": ["go", "version"],
    "rust": ["cargo", "--version"],
    "java": ["java", "--version"],
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
        tool = subprocess.run(_VERSIONS[language], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        for library in group:
            report = reports[library.program]
            for complaint in report.complaints if faults(report) else []:
                click.echo(f"  {library.name}: {complaint}", err=True)
            results[library.program] = {
                "version": library.version,
                "tool": tool,
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                **{name: value for name, value in asdict(report).items() if name != "complaints"},
            }
    return results


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
