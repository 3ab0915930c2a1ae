"""``docs/clients.md``, made from the results of ``make soak``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients.libraries import LIBRARIES, NO_OPTION, Library
from tests.clients.scenario import FULL, IDS_ALONE, YES

DOCS = Path(__file__).parent.parent.parent / "docs"
RESULTS = DOCS / "clients" / "results.json"

HEAD = """# Other people's libraries

Any client of Server-Sent Events can read Broker's stream. The libraries on this page were tested with it. For each
library there is a short program ([tests/clients](../tests/clients)) that follows the library's README. `make test`
tests six of the libraries. `make soak ARGS="--clients --page"` tests all of them, and generates this page.

## Results

First, each library had to read a snapshot with unusual events (emoji, blanks and a colon in the name; emoji, line
breaks, U+2028, U+2029 and U+0085 in the data; a line of 900 KB). Then it had to read a stream that was idle for some
heartbeats. After that, there were four interruptions, in this order: a full server (`subscribers_max`) refused the
stream until there was room; the server stopped after SIGTERM and was started again; the server was killed (`kill -9`)
and started again; and the server was started with another log. During each interruption, while the library was
disconnected, a record was inserted. The columns of the table show:

* **data**: whether the library delivers every character of names, ids and data correctly.
* **900 KB**: whether the library can read a line of this length. If the library needs an option for that, the column
  names the option, and says what happens without it.
* **empty events**: in which cases the library delivers an event that has no data. By the standard, such a block of the
  stream is not an event. If your library delivers such events, check that there is `data` before `JSON.parse`. *Id
  alone* means a block that has only an id. Broker sends such a block on a stream with a filter after it has published
  records that the filter leaves out. With `?heartbeat=event`, Broker sends the event `$heartbeat` instead.
* **full**, **SIGTERM**, **kill -9**: whether the library resumes after this interruption (by itself, or in a loop of
  your own), so that the missed record arrives once and nothing arrives twice. *Ends* means that the library raises an
  error, or that its stream ends. In this case, connect again with the last id.
* **`$reset`**: whether the library continues with the other log, and delivers `$reset` first.

No library received a record twice, or out of order.

"""

_LANGUAGES = {"js": "JavaScript", "python": "Python", "go": "Go", "rust": "Rust", "java": "Java"}

WRITE = """
## Clients that write

Any HTTP client can sign up, log in and insert. A program that runs without a person gets
[an API key](access.md#programs-api-keys) instead, and sends it as it would send a token: `Authorization: Bearer bk_…`.
In each request without TLS, `curl --http2` and the JDK's `HttpClient` offer to use HTTP/2. (`HttpClient` does so by
default, and so do libraries that are built on it.) Broker declines the offer, and answers over HTTP/1.1 on the same
connection. `make test` runs both clients. They send bodies in one piece
and in many pieces, chunked and not chunked, and with and without `Expect: 100-continue`
([test_upgrade.py](../tests/web/test_upgrade.py)).
"""

KNOW = """
## What you need to know

When a library reconnects by itself, it sends the last id that it received. The column **saved id** shows how to set an
id for the first request. *By your own loop* means that the library reads only one response, so your program must open
each new connection, in a loop, and must send the last id.

"""


def made(results: dict[str, Any]) -> str:
    """The page."""
    return HEAD + "\n".join(_results(results)) + "\n" + KNOW + "\n".join(_notes(results)) + "\n" + WRITE


def read() -> dict[str, Any]:
    """The results of the last runs, by the program's name."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def write(results: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    known = {library.program: results[library.program] for library in LIBRARIES if library.program in results}
    RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    (DOCS / "clients.md").write_text(made(known))


def _results(results: dict[str, Any]) -> Iterator[str]:
    yield "| library | data | 900 KB | empty events | full | SIGTERM | kill -9 | `$reset` |"
    yield "|---|---|---|---|---|---|---|---|"
    for library in LIBRARIES:
        if result := results.get(library.program):
            after = result["after"]
            cells = [
                _title(library, result),
                _data(result),
                _large(library, result),
                _empty(result["empty"]),
                after[FULL],
                after["SIGTERM"],
                after["SIGKILL"],
                result["reset"],
            ]
            yield f"| {' | '.join(cells)} |"
    yield ""
    for date in sorted({result["date"] for result in results.values()}):
        tools = dict.fromkeys(result["tool"] for result in results.values() if result["date"] == date)
        yield f"Tried on {date} with {', '.join(tools)}."


def _title(library: Library, result: dict[str, Any]) -> str:
    language = "Browser" if library.program == "chromium" else _LANGUAGES[library.language]
    return f"{language}: **{library.name}** {result['version']}"


def _data(result: dict[str, Any]) -> str:
    if result["names"] != YES:
        return str(result["names"])
    return "right" if result["separators"] == YES else "U+2028 breaks it"


def _large(library: Library, result: dict[str, Any]) -> str:
    if not library.large:
        return str(result["large"])
    if result["without_option"] == YES:
        return "yes"
    without = f"without it, the library {result['without_option']}"
    return f"{result['large']}; {without}" if library.large != NO_OPTION else "no"


def _empty(counts: dict[str, int]) -> str:
    whens = [when for when, count in counts.items() if count]
    ends = [when for when in whens if when.startswith("after ")]
    texts = [when for when in whens if when not in ends and when != IDS_ALONE]
    if ends:
        texts.append("when an idle stream ends")
    if IDS_ALONE in whens:
        texts.append("id alone")
    return "; ".join(texts) or "none"


def _notes(results: dict[str, Any]) -> Iterator[str]:
    yield "| library | reconnects | saved id | lines over 64 KiB | what else to know |"
    yield "|---|---|---|---|---|"
    for library in LIBRARIES:
        if library.program not in results:
            continue
        title = _title(library, results[library.program])
        large = {"": "read", NO_OPTION: "cannot be read"}.get(library.large, library.large)
        yield f"| {title} | {library.reconnects} | {library.saved_id} | {large} | {library.notes} |"
