"""``make soak``: runs under faults for as long as one likes; its report goes into ``docs/reliability.md``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from broker.operations.verify import verify
from tests.clients import soak as clients
from tests.faults.run import Run
from tests.faults.trouble import FAULTS
from tests.support.postgres import a_server

DOCS = Path(__file__).parent.parent.parent / "docs"
BEGIN, END = "<!-- begin: the last soak -->\n", "<!-- end: the last soak -->\n"
ONE, THREE = "One node on SQLite", "Three nodes on PostgreSQL"
DEVELOPMENT = Path(__file__).parent.parent / "proxies" / "development.py"
KILLS_A_ROUND = 20
ROUND_S = 60.0  # of trouble with nodes; to start and to settle takes some more
PUBLISHERS = 16


def main() -> None:
    parser = argparse.ArgumentParser(prog='make soak ARGS="..."', description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="of one node on SQLite (300: some 22 minutes; 0: none)")
    parser.add_argument("--nodes", type=int, default=10, help="minutes of three nodes on PostgreSQL (0: none)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the dice; printed, to do a run again")
    parser.add_argument(
        "--clients", action=argparse.BooleanOptionalAction,
        help="other people's libraries alone (some four minutes); --no-clients: all but those",
    )  # fmt: skip
    parser.add_argument(
        "--page", action="store_true", help="put the reports of this run into docs/reliability.md and docs/clients.md"
    )
    parser.add_argument("--proxies", action="store_true", help="streams behind npm's development proxies, and no more")
    parser.add_argument(
        "--forms", action="store_true",
        help="forms alone: a minute of typing in each test, in Chromium and Firefox, and 300 histories (half an hour)",
    )  # fmt: skip
    options = parser.parse_args()
    if options.forms:
        sys.exit(forms())
    if options.proxies:
        sys.exit(subprocess.run([sys.executable, "-m", "pytest", DEVELOPMENT]).returncode)
    if options.clients:
        sys.exit(min(clients.main(options.page), 1))
    print(f"seed {options.seed}", file=sys.stderr)
    reports: dict[str, Any] = {}
    if options.kills:
        reports[ONE] = soak(ONE, -(-options.kills // KILLS_A_ROUND), one_node, options.seed)
    if options.nodes:
        reports[THREE] = soak(THREE, options.nodes, three_nodes, options.seed)
    print(shown(reports))
    if options.page:
        (DOCS / "reliability").mkdir(exist_ok=True)
        file = DOCS / "reliability" / "soak.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(known | reports, indent=1) + "\n")
        page = DOCS / "reliability.md"
        page.write_text(with_reports(page.read_text(), known | reports))
    wrong = 0 if options.clients is False else clients.main(options.page)
    sys.exit(bool(wrong) or any(report["faults"] for report in reports.values()))


def forms() -> int:
    """Types for a minute in each test, and merges 300 random histories. Returns the exit status of what fails first."""
    root = DOCS.parent
    typing = [root / "tests" / "browser" / name for name in ("test_forms.py", "firefox.py")]
    runs: list[tuple[list[str | Path], dict[str, str]]] = [
        ([sys.executable, "-m", "pytest", *typing], {"BROKER_TYPING_S": "60"}),
        (
            ["node", "--test", root / "tests" / "js" / "forms.test.js"],
            {"FORMS_HISTORIES": "60", "PYTHON": sys.executable},
        ),
    ]
    for command, more in runs:
        if status := subprocess.run(command, env={**os.environ, **more}).returncode:
            return status
    return 0


def soak(what: str, rounds: int, one_round: Callable[[Path, int], tuple[Run, list[str]]], seed: int) -> dict[str, Any]:
    """The report of so many rounds, each with a log of its own."""
    started = time.time()
    counts: Counter[str] = Counter()
    faults: list[str] = []
    with click.progressbar(range(rounds), label=what, file=sys.stderr, show_pos=True) as bar:
        for number in bar:
            with tempfile.TemporaryDirectory() as folder:
                run, wrong = one_round(Path(folder), seed + number)
            counts += run.counts
            faults += wrong
            if wrong:
                print(*wrong, *[line for node in run.nodes for line in node.log[-100:]], sep="\n", file=sys.stderr)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
        "minutes": round((time.time() - started) / 60, 1),
        "seed": seed,
        "subscribers": Run.subscribers,
        "newcomers": Run.newcomers,
        "publishers": PUBLISHERS,
        "counts": dict(sorted(counts.items())),
        "faults": faults,
    }


def one_node(folder: Path, seed: int) -> tuple[Run, list[str]]:
    run = Run(folder, seed=seed, publishers=PUBLISHERS)
    faults = asyncio.run(run.go(trouble))
    return run, faults + [str(fault) for fault in verify(folder / "broker.db", lambda records: None)]


def three_nodes(folder: Path, seed: int) -> tuple[Run, list[str]]:
    with a_server() as postgres:
        run = Run(folder, seed=seed, postgres=postgres, publishers=PUBLISHERS)
        return run, asyncio.run(run.go(trouble_with_nodes))


async def trouble(run: Run) -> None:
    """One round: kills at random moments, some of them close together, and gentler faults in between."""
    dice = random.Random(run.seed)
    for _ in range(KILLS_A_ROUND):
        await asyncio.sleep(dice.choice([dice.uniform(0, 0.3), dice.uniform(0, 3), dice.uniform(3, 10)]))
        await run.kill(*run.nodes)
        match dice.randrange(6):
            case 0:
                await asyncio.sleep(dice.uniform(0, 2))
                await run.kill(*run.nodes, number=signal.SIGTERM)
            case 1:
                await asyncio.sleep(dice.uniform(0, 2))
                await run.freeze(run.nodes[0], dice.uniform(0.1, 3))


async def trouble_with_nodes(run: Run) -> None:
    """One round: every kind of fault, in any order, some of them close together."""
    dice = random.Random(run.seed)
    end = time.monotonic() + ROUND_S
    while time.monotonic() < end:
        await asyncio.sleep(dice.choice([dice.uniform(0, 0.3), dice.uniform(0, 3)]))
        await dice.choice(FAULTS)(run, dice)


def shown(reports: dict[str, Any]) -> str:
    """The reports in Markdown."""
    return "\n".join("\n".join(_lines(what, reports[what])) for what in (ONE, THREE) if what in reports)


def _lines(what: str, report: dict[str, Any]) -> list[str]:
    return [
        f"{what}, {report['date']}, {report['minutes']} minutes, {report['publishers']} publishers, "
        f"{report['subscribers']} subscribers that resume and {report['newcomers']} that disconnect again and again "
        f"and start with a new snapshot, seed {report['seed']}:",
        "",
        "| what | how many |",
        "|---|---|",
        *(f"| {what} | {count:,} |" for what, count in report["counts"].items()),
        f"| **lost, doubled, reordered, early, or otherwise wrong** | **{len(report['faults'])}** |",
        *(f"| {fault} | |" for fault in report["faults"][:20]),
        "",
    ]


def with_reports(page: str, reports: dict[str, Any]) -> str:
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + shown(reports) + END + tail


if __name__ == "__main__":
    main()
