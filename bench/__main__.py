"""``make bench``: Broker and its peers, measured on this machine; writes ``docs/performance.md`` and its plots."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import against, fanout, inserts, nodes, rights, schedule, states, streams
from bench.bench import Bench
from bench.errors import BenchError
from bench.load import compile_programs
from bench.page import page_of
from bench.servers import available

ROOT = Path(__file__).parent.parent
TRIED = ROOT / "tmp" / "bench"

WORKS: dict[str, tuple[str, Callable[[Bench], None]]] = {
    "one": ("one event at a time, 1,000 subscribers", lambda bench: fanout.one_at_a_time(bench, 1_000, 12, 30)),
    "one8": ("one event at a time, 8,000 subscribers", lambda bench: fanout.one_at_a_time(bench, 8_000, 3, 15)),
    "bursts": ("bursts of 100 events, 1,000 subscribers", fanout.bursts),
    "steady": ("500 inserts a second, 1,000 to 4,000 subscribers", fanout.steady),
    "idle": ("8,000 idle streams", streams.idle),
    "opening": ("8,000 streams opened at once", streams.opening),
    "single": ("single inserts of one client", inserts.one_client),
    "singles": ("single inserts", inserts.singles),
    "batches": ("batched inserts", inserts.batches),
    "schedule": ("scheduled records", schedule.lateness),
    "storm": ("a storm of connections", streams.storm),
    "filters": ("many different filters", fanout.filters),
    "subscribers": ("growth: subscribers", fanout.growth),
    "records": ("growth: records", inserts.growth),
    "states": ("the state at another time", states.times),
    "nodes": ("inserts through nodes on PostgreSQL", nodes.inserts),
    "latency": ("from one node to another", nodes.latency),
    "followers": ("what each node costs PostgreSQL", nodes.followers),
    "workers": ("fan-out of one process and of two", nodes.workers),
}


CLIENT = ("sizes", "loading", "frames", "memory")
CONSOLE = ("frames", "search", "scrolling", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog='make bench ARGS="..."',
        usage='make bench ARGS="[--quick] [--only PART,PART] [--against FOLDER] [--rights] [--client] [--console] '
        '[--work F] [--out F] [--page]"',
        description="Broker and its peers, measured on this machine. Peers that are not installed are left out: nginx "
        "and libnginx-mod-nchan are Debian packages. Needs a C compiler (cc).",
        epilog="parts:\n" + "\n".join(f"  {name:12} {title}" for name, (title, _) in WORKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few and short rounds, to try it; figures mean little")
    parser.add_argument("--only", metavar="PART,PART", help="these parts only")
    parser.add_argument("--work", type=Path, default=TRIED, help="where servers keep their files (tmp/bench)")
    parser.add_argument("--out", type=Path, help="where the page goes (docs; of a quick or partial run, tmp/bench)")
    parser.add_argument(
        "--against", type=Path, metavar="FOLDER", help="another checkout: both in turn, and nothing else"
    )
    parser.add_argument("--rights", action="store_true", help="what rights cost, and nothing else")
    parser.add_argument(
        "--client",
        action="store_true",
        help=f"what the client for pages costs, and nothing else; its parts: {', '.join(CLIENT)}",
    )
    parser.add_argument(
        "--console",
        action="store_true",
        help=f"what the console's table of events costs, and nothing else; its parts: {', '.join(CONSOLE)}",
    )
    parser.add_argument("--page", action="store_true", help="measure nothing: make the page of the last run again")
    options = parser.parse_args()
    whole = not options.quick and not options.only
    options.out = options.out or (ROOT / "docs" if whole else TRIED)  # the page is of one whole run
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that every server is ended
    results = options.out / "performance" / "results.json"
    try:
        if options.against or options.rights:
            options.work.mkdir(parents=True, exist_ok=True)
            bench = Bench(options.quick, options.work, compile_programs(options.work / "programs"), {})
            print(rights.compare(bench) if options.rights else against.compare(bench, options.against))
            return
        if options.client or options.console:
            _browser(options)
            return
        if not options.page:
            measure(options, results)
        elif not results.exists():
            raise BenchError(f"there is no run in {results.parent}: leave out --page")
        from bench import plots  # needs a drawing library, which measuring does not

        found = json.loads(results.read_text())
        plots.draw(found["found"], results.parent)
        (options.out / "performance.md").write_text(page_of(found))
        print(options.out / "performance.md")
    except BenchError as error:
        raise SystemExit(f"bench: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("bench: interrupted; every server is ended") from None


def _browser(options: argparse.Namespace) -> None:
    from bench import client, console  # need a driver of browsers, which nothing else does

    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.quick, options.work, compile_programs(options.work / "programs"), {})
    part, name = (console, "console-performance.md") if options.console else (client, "client-performance.md")
    page = part.measure(bench, options.only.split(",") if options.only else [], _machine())
    (options.out / name).write_text(page)
    print(page, options.out / name, sep="\n")


def measure(options: argparse.Namespace, results: Path) -> None:
    names = [name for name in options.only.split(",") if name] if options.only else list(WORKS)
    if unknown := [name for name in names if name not in WORKS]:
        raise BenchError(f"{unknown[0]}: expected some of {', '.join(WORKS)}")
    options.work.mkdir(parents=True, exist_ok=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.quick, options.work, compile_programs(options.work / "programs"), available())
    for peer, version in bench.versions.items():
        bench.tell(f"{peer}: {version or 'not here, so not measured'}")
    started = time.time()
    for number, name in enumerate(names, 1):
        title, work = WORKS[name]
        bench.tell(f"[{number}/{len(names)}] {title}")
        work(bench)
        results.write_text(json.dumps(_results(bench, started), indent=1) + "\n")


def _results(bench: Bench, started: float) -> dict[str, Any]:
    return {
        "quick": bench.quick,
        "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
        "minutes": round((time.time() - started) / 60, 1),
        "machine": _machine(),
        "versions": bench.versions,
        "found": bench.found,
    }


def _machine() -> dict[str, str]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)  # noqa: S607
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "memory": f"{kib / 1024 / 1024:.0f} GiB",
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "not known",
    }


if __name__ == "__main__":
    main()
