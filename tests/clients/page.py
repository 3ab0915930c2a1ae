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

Any client of Server-Sent Events can read Broker's stream. The libraries on this page were tried on it, each with a
program of about a screenful ([tests/clients](../tests/clients)) that does what the library's README says. `make test`
tries six of them; `make soak ARGS="--clients --page"` tries all, and makes this page.

## What came of it

Each library had to read a snapshot with unusual events (emoji, blanks and a colon in the name; emoji, line breaks,
U+2028, U+2029 and U+0085 in the data; a line of 900 KB), and then a stream that was idle for some heartbeats. After
that, a full server (`subscribers_max`) refused the stream until there was room; the server ended after SIGTERM and was
started again; it was killed (`kill -9`) and started again; and at last it was started with another log. Each time a
record was inserted while the library was disconnected. The columns of the table say:

* **data**: whether names, ids and data are right to the character.
* **900 KB**: whether the library reads so long a line, and the option that it needs for that.
* **empty events**: when the library delivers an event that has no data, which by the standard is not an event. If it
  does, check `data`, or the name, before `JSON.parse`. *Id alone* means an id without an event, which Broker sends on a
  stream with a filter when other records were published; with `?heartbeat=event` it sends the event `$heartbeat` in its
  place.
* **full**, **SIGTERM**, **kill -9**: whether the library resumes by itself (or with the loop that it needs), so that
  the missed record arrives once and nothing arrives twice. *Ends* means that it raises an error, or that its stream is
  over: connect again with the last id.
* **`$reset`**: whether the library continues with the other log, and delivers `$reset` first.

No library received a record twice, or out of order.

"""

_LANGUAGES = {"js": "JavaScript", "python": "Python", "go": "Go", "rust": "Rust", "java": "Java"}

WRITE = """
## Clients that write

Any HTTP client can sign up, log in and insert. The JDK's `HttpClient` (with its defaults, and so what is built on it)
and `curl --http2` offer HTTP/2 with each request in clear text. Broker declines the offer, and answers over HTTP/1.1 on
the same connection. `make test` has both of them send bodies in one piece and in many, chunked and not, and with
`Expect: 100-continue` and without ([test_upgrade.py](../tests/web/test_upgrade.py)).
"""

KNOW = """
## What you need to know

When a library reconnects by itself, it sends the last id. **Saved id** says how you give an id to its first request.

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
    return f"{result['large']}; else it {result['without_option']}" if library.large != NO_OPTION else "no"


def _empty(counts: dict[str, int]) -> str:
    whens = [when for when, count in counts.items() if count]
    ends = [when for when in whens if when.startswith("after ")]
    texts = [when for when in whens if when not in ends and when != IDS_ALONE]
    if ends:
        texts.append("at the end of an idle stream")
    if IDS_ALONE in whens:
        texts.append("id alone")
    return ", ".join(texts) or "none"


def _notes(results: dict[str, Any]) -> Iterator[str]:
    yield "| library | connects again | saved id | lines over 64 KiB | and |"
    yield "|---|---|---|---|---|"
    for library in LIBRARIES:
        if library.program not in results:
            continue
        title = _title(library, results[library.program])
        large = {"": "read", NO_OPTION: "cannot be read"}.get(library.large, library.large)
        yield f"| {title} | {library.reconnects} | {library.saved_id} | {large} | {library.notes} |"
