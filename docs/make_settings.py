"""Prints docs/settings.md, made from the one table of settings in the source: `make docs` writes it."""

from __future__ import annotations

from dataclasses import Field
from pathlib import Path
from typing import Any

from broker.settings import TABLE

HEAD = """# Settings

This page is made from `src/broker/setting_table.py` by `make docs`; a test fails if the two differ.

Each setting is read from the first of these that has it:

1. an argument: `--host`, `--port`, `--data`, `--database`, `--workers`, `--origin`, `--allow-header`, and
   `--set NAME=VALUE` for every other one; in a library call, `broker_run(..., NAME=VALUE)` or `Settings(NAME=VALUE)`;
2. the environment: `BROKER_` and the name in capitals; if `BROKER_PORT` gives no port, `PORT` is used;
3. the TOML file that `--config FILE` (or `BROKER_CONFIG`) names, with lines such as `heartbeat_s = 10`, in UTF-8;
4. the default.

`Settings(...)` by itself uses arguments and defaults only. A value that makes no sense is refused at start, before
anything is opened. The message names the setting and where its value came from: `port (BROKER_PORT)`,
`heartbeat_s (broker.toml, line 3)`, `host (argument)`. A name that does not exist is refused too, in arguments and in
the file.

Yes is written `yes`, `true`, `on` or `1`, and no as `no`, `false`, `off` or `0`; TOML has `true` and `false`. In the
environment and with `--set`, a list is separated by commas, and `none` is the empty list. White space around a value is
ignored, such as the line break of a file from which the value was read. Of a path, only line breaks at its end are
ignored. Quotation marks around a value are refused.

An empty variable is ignored, as if it were not set. The exception is an empty `BROKER_DATABASE`, which is refused: if
Broker ignored it, Broker would not serve your log in PostgreSQL, but the log in the folder `data`. A variable
`BROKER_...` that is not a setting, mostly a typing error, is ignored, and the log warns of it and names the most
similar setting. `BROKER_PORT=tcp://10.96.0.12:8080`, which Kubernetes sets for a Service that is named `broker`, is
ignored with a warning as well. `DATABASE_URL` is not read.

## What people set

"""

LIMITS = """
## Limits

Everything that can grow has a limit, which is far beyond ordinary use and keeps memory and waiting times bounded when
something goes wrong. The last five are intervals and threads within the server.

"""


def page() -> str:
    """Markdown with two tables, each with a row for each of its settings, in the order of the source."""
    people = [setting for setting in TABLE if not setting.metadata["limit"]]
    limits = [setting for setting in TABLE if setting.metadata["limit"]]
    return f"{HEAD}{_table(people, 'what it sets')}{LIMITS}{_table(limits, 'what it limits')}"


def _table(settings: list[Field[Any]], what: str) -> str:
    rows = [f"| setting | default | unit | {what} | why | environment |", "|---|---|---|---|---|---|"]
    for setting in settings:
        unit, what, why = (setting.metadata[column] for column in ("unit", "what", "why"))
        variable = f"`BROKER_{setting.name.upper()}`"
        rows.append(f"| `{setting.name}` | {_shown(setting.default)} | {unit} | {what} | {why} | {variable} |")
    return "\n".join(rows) + "\n"


def _shown(default: object) -> str:
    if default is None or default in ("", ()):
        return "none"
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, Path):
        return f"`./{default}`"
    if isinstance(default, tuple):
        return ", ".join(default)
    if isinstance(default, int | float) and default >= 10_000:
        return f"{default:,}"
    return f"{default:g}" if isinstance(default, float) else str(default)


if __name__ == "__main__":
    print(page(), end="")
