"""``make soak``: runs under faults for as long as one likes; its report goes into ``docs/reliability.md``."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from broker.store.verify import verify
from tests.faults.run import Run

DOCS = Path(__file__).parent.parent.parent / "docs"
BEGIN, END = "<!-- begin: the last soak -->\n", "<!-- end: the last soak -->\n"
KILLS_A_ROUND = 20
PUBLISHERS = 16


def main() -> None:
    parser = argparse.ArgumentParser(prog='make soak ARGS="..."', description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="so many kill -9 in all (300: some 22 minutes)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the dice; printed, to do a run again")
    parser.add_argument("--page", action="store_true", help="put the report of this run into docs/reliability.md")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    started = time.time()
    counts: Counter[str] = Counter()
    faults: list[str] = []
    rounds = range(-(-options.kills // KILLS_A_ROUND))
    with click.progressbar(rounds, label="soak", file=sys.stderr, show_pos=True) as bar:
        for number in bar:
            with tempfile.TemporaryDirectory() as folder:
                run = Run(Path(folder), seed=options.seed + number, publishers=PUBLISHERS)
                faults += asyncio.run(run.go(trouble))
                faults += map(str, verify(Path(folder) / "broker.db", lambda records: None))
                counts += run.counts
    report = {
        "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
        "minutes": round((time.time() - started) / 60, 1),
        "seed": options.seed,
        "subscribers": Run.subscribers,
        "newcomers": Run.newcomers,
        "publishers": PUBLISHERS,
        "counts": dict(sorted(counts.items())),
        "faults": faults,
    }
    print("\n".join(report_of(report)))
    if options.page:
        (DOCS / "reliability").mkdir(exist_ok=True)
        (DOCS / "reliability" / "soak.json").write_text(json.dumps(report, indent=1) + "\n")
        page = DOCS / "reliability.md"
        page.write_text(with_report(page.read_text(), report))
    sys.exit(1 if faults else 0)


async def trouble(run: Run) -> None:
    """One round: kills at random moments, some of them close together, and gentler faults in between."""
    dice = random.Random(run.seed)
    for _ in range(KILLS_A_ROUND):
        await asyncio.sleep(dice.choice([dice.uniform(0, 0.3), dice.uniform(0, 3), dice.uniform(3, 10)]))
        await run.kill()
        match dice.randrange(6):
            case 0:
                await asyncio.sleep(dice.uniform(0, 2))
                await run.kill(signal.SIGTERM)
            case 1:
                await asyncio.sleep(dice.uniform(0, 2))
                await run.freeze(dice.uniform(0.1, 3))


def report_of(report: dict[str, Any]) -> list[str]:
    """The report's lines of Markdown."""
    counts = report["counts"]
    lines = [
        f"{report['date']}, {report['minutes']} minutes, {report['publishers']} publishers, {report['subscribers']} "
        f"subscribers that resume and {report['newcomers']} that begin anew again and again, seed {report['seed']}:",
        "",
        "| what | how many |",
        "|---|---|",
        *(f"| {what} | {count:,} |" for what, count in counts.items()),
        f"| **lost, doubled, reordered, early, or otherwise wrong** | **{len(report['faults'])}** |",
    ]
    return lines + [f"| {fault} | |" for fault in report["faults"][:20]]


def with_report(page: str, report: dict[str, Any]) -> str:
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + "\n".join(report_of(report)) + "\n" + END + tail


if __name__ == "__main__":
    main()
