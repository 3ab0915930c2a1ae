"""How long a page waits for the client on a slow network: as Broker serves it, and as one file."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.bench import Bench, median
from bench.browser import Tab
from bench.figures import table
from bench.npm import ESBUILD, bundle, install
from bench.servers import broker, broker_token, insert_all

BITS_PER_S, LATENCY_MS = 1.6e6, 150
SOURCES = Path(__file__).parent.parent / "src" / "broker" / "js"
PAGE = """<!doctype html><meta charset="utf-8"><title>sale</title><p id="sale"></p>
<script type="module">
  import { createBroker } from "%s";
  const broker = createBroker(location.origin, { storage: "memory" });
  broker.event("sale").subscribe((data) => {
    if (!data) return;
    document.all.sale.textContent = data.percent;
    window.shown ??= performance.now();
    window.received ??= performance.getEntriesByType("resource").filter((each) => each.name.endsWith(".js"));
  });
</script>"""


def measure(bench: Bench, open_tab: Callable[[], Tab]) -> str:
    """From the navigation to the first value of an event, with a cold cache."""
    times = bench.times(15, 3)
    with tempfile.TemporaryDirectory(dir=bench.folder) as temporary:
        folder, site = Path(temporary), Path(temporary) / "site"
        site.mkdir()
        install(folder, ESBUILD)
        ways = {
            "as it is served": "/broker.js",
            "an entry and one file": _file(site, "entry.js", b'export * from "./one.js";'),
            "one file": _file(site, "one.js", bundle(folder, SOURCES / "broker.js")),
            "one file, minified": _file(site, "minified.js", bundle(folder, SOURCES / "broker.js", "--minify")),
        }
        _file(site, "index.html", b"")
        for number, address in enumerate(ways.values()):
            _file(site, f"{number}.html", (PAGE % address).encode())
        bench.tell(f"a page at {BITS_PER_S / 1e6} Mbit/s and {LATENCY_MS} ms, {times} times in turn")
        found: dict[str, list[float]] = {way: [] for way in ways}
        what = dict.fromkeys(ways, "")
        with broker(folder, "--static", str(site)) as server:
            insert_all(server, broker_token(server), ['{"event":"sale","data":{"percent":20}}'])
            for _ in range(times):
                for number, way in enumerate(ways):
                    tab = open_tab()
                    tab.throttle(BITS_PER_S, LATENCY_MS)
                    tab.page.goto(f"http://127.0.0.1:{server.port}/{number}.html", wait_until="commit")
                    tab.wait("window.shown")
                    found[way].append(tab.run("window.shown"))
                    what[way] = tab.run(
                        "`${received.length} | ${received.reduce((sum, each) => sum + each.encodedBodySize, 0)}`"
                    )
                    tab.page.context.close()
    rows = [
        (way, what[way], f"{median(all_ms):,.0f}", f"{min(all_ms):,.0f}", f"{max(all_ms):,.0f}")
        for way, all_ms in found.items()
    ]
    head = ("", "files", "bytes, gzipped", "first value, ms", "lowest", "highest")
    return f"From the navigation to the first value, at {BITS_PER_S / 1e6} Mbit/s and {LATENCY_MS} ms:\n\n" + "\n".join(
        table(head, rows)
    )


def _file(site: Path, name: str, content: bytes) -> str:
    (site / name).write_bytes(content)
    (site / f"{name}.gz").write_bytes(gzip.compress(content))
    return f"/{name}"
