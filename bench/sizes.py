"""What the client weighs beside its peers. Each peer is installed from npm by its exact
version, and what its users import first is bundled, minified and gzipped, without React."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from bench.bench import Bench
from bench.errors import BenchError
from bench.figures import table
from bench.npm import ESBUILD, bundle, install
from bench.servers import broker

SOURCES = Path(__file__).parent.parent / "src" / "broker" / "js"

# What is bundled, and the packages that it needs.
PEERS: dict[str, tuple[str, dict[str, str]]] = {
    "Convex": ('export { ConvexClient } from "convex/browser";', {"convex": "1.49.0"}),
    "Convex for React": (
        'export { ConvexProvider, ConvexReactClient, useMutation, useQuery } from "convex/react";',
        {"convex": "1.49.0"},
    ),
    "Durable Streams": ('export { stream, DurableStream } from "@durable-streams/client";',
                        {"@durable-streams/client": "0.2.7"}),
    "Electric and TanStack DB": (
        'export { createCollection } from "@tanstack/db";\n'
        'export { electricCollectionOptions } from "@tanstack/electric-db-collection";',
        {"@tanstack/db": "0.15.2", "@tanstack/electric-db-collection": "0.4.10"},
    ),
    "eventsource-client": ('export { createEventSource } from "eventsource-client";', {"eventsource-client": "1.2.0"}),
    "Firebase Realtime Database": (
        'export { initializeApp } from "firebase/app";\n'
        'export { getDatabase, onValue, push, ref, remove, set, update } from "firebase/database";',
        {"firebase": "13.2.0"},
    ),
    "InstantDB": ('export { init } from "@instantdb/core";', {"@instantdb/core": "1.0.67"}),
    "Liveblocks": ('export { createClient } from "@liveblocks/client";', {"@liveblocks/client": "3.24.2"}),
    "PocketBase": ('export { default } from "pocketbase";', {"pocketbase": "0.28.1"}),
    "Replicache": ('export { Replicache } from "replicache";', {"replicache": "15.3.0"}),
    "Supabase": ('export { createClient } from "@supabase/supabase-js";', {"@supabase/supabase-js": "2.119.1"}),
    "Zero": ('export { Zero } from "@rocicorp/zero";', {"@rocicorp/zero": "1.9.0"}),
}  # fmt: skip


def compare(bench: Bench) -> str:
    """The table, the smallest first."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as temporary:
        folder = Path(temporary)
        bench.tell("installing esbuild")
        install(folder, ESBUILD)
        found = dict(_own(folder))
        for number, (name, (entry, packages)) in enumerate(PEERS.items(), 1):
            versions = ", ".join(f"{package} {version}" for package, version in packages.items())
            bench.tell(f"[{number}/{len(PEERS)}] {versions}")
            try:
                where = folder / re.sub(r"\W", "-", name)
                where.mkdir()
                install(where, packages)
                (where / "entry.js").write_text(entry)
                found[name] = versions, _bytes(folder, where / "entry.js")
            except (BenchError, subprocess.SubprocessError) as error:  # the others can be measured all the same
                bench.tell(f"  NOT MEASURED: {error}")
    rows = [
        (name, what, f"{size / 1e3:.1f}") for name, (what, size) in sorted(found.items(), key=lambda each: each[1][1])
    ]
    return "\n".join(table(("client", "version", "kB"), rows)) + f"\n\n{_served(bench)}"


def _own(folder: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    version = json.loads((SOURCES / "package.json").read_text())["version"]
    yield "**Broker**", (f"zerocode-broker {version}", _bytes(folder, SOURCES / "broker.js"))
    if (SOURCES / "react.js").exists():
        (folder / "react.js").write_text(f'export * from "{SOURCES}/broker.js";\nexport * from "{SOURCES}/react.js";')
        yield "**Broker for React**", (f"zerocode-broker {version}", _bytes(folder, folder / "react.js"))


def _bytes(folder: Path, entry: Path) -> int:
    return len(gzip.compress(bundle(folder, entry, "--minify"), 9, mtime=0))


def _served(bench: Bench) -> str:
    """What a browser receives from Broker itself, which minifies nothing."""
    with bench.data() as folder, broker(folder) as server, closing(HTTPConnection("127.0.0.1", server.port)) as asked:

        def sent(path: str) -> bytes:
            asked.request("GET", path, headers={"Accept-Encoding": "gzip"})
            return asked.getresponse().read()

        entry = sent("/broker.js")
        paths = sorted(set(re.findall(r"/broker/\w+/[\w.]+", gzip.decompress(entry).decode())))
        sizes = [len(entry), *(len(sent(path)) for path in paths)]
    return (
        f"Broker itself serves it without a build: a page that imports `/broker.js` receives {len(sizes)} files, "
        f"{sum(sizes) / 1e3:.1f} kB together, gzipped."
    )
