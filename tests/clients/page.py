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

Broker's stream is read by whatever reads Server-Sent Events. These libraries were tried on it, each with a program of a
screenful ([tests/clients](../tests/clients)) that does what the library's README says. `make test` tries six of them,
`make soak ARGS="--clients --page"` all, and makes this page.

## What came of it

Each had to read a snapshot with odd events (emoji, blanks and a colon in the name; emoji, line breaks, U+2028, U+2029
and U+0085 in the data; a line of 900 KB), and then a stream that was idle for some heartbeats. Then a full server
(`subscribers_max`) turned it away until there was room; the server ended after SIGTERM and was started again; it was
killed (`kill -9`) and started again; and in the end the log was another one. Each time a record went in while the
library was away.

* **data**: names, ids and data are right to the character.
* **900 KB**: it reads so long a line, with the option that is named.
* **empty events**: when it delivers an event that has no data, which the standard says is none. Look at `data`, or at
  the name, before `JSON.parse`. *Id alone*: on a stream with a filter Broker sends an id without an event when the log
  has gone on; with `?heartbeat=event` it sends the event `$heartbeat` in its place.
* **full**, **SIGTERM**, **kill -9**: it resumes by itself (or with the loop that it needs), so that the missed record
  comes once and nothing comes twice. *Ends*: it raises, or its stream is over; begin anew with the last id.
* **`$reset`**: it goes on with another log, and `$reset` comes first.

No library got a record twice, or out of order.

"""

_LANGUAGES = {"js": "JavaScript", "python": "Python", "go": "Go", "rust": "Rust", "java": "Java"}

WRITE = """
## Clients that write

Any HTTP client can sign up, log in and insert. The JDK's `HttpClient` (as it comes, so also what is built on it) and
`curl --http2` offer with each request in clear text to go on in HTTP/2; Broker declines the offer and answers over
HTTP/1.1, on the same connection. `make test` has both of them do it, with bodies in one piece and in many, chunked and
not, with `Expect: 100-continue` and without ([test_upgrade.py](../tests/web/test_upgrade.py)).
"""

KNOW = """
## What you need to know

All send the last id with each request that they make by themselves. **Saved id** is how you give one to the first.

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
