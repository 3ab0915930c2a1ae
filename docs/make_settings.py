"""Prints docs/settings.md, made from the one table of settings in the source: `make docs` writes it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from broker.settings import Settings

HEAD = """# Settings

Made from `src/broker/settings.py` by `make docs`; a test fails if the two differ.

A setting is looked for in this order, and the first that is found counts:

1. an argument: `--host`, `--port`, `--data`, `--origin`, and `--set NAME=VALUE` for every other one; in a library call,
   `broker_run(..., NAME=VALUE)` or `Settings(NAME=VALUE)`;
2. the environment: `BROKER_` and the name in capitals (`PORT` is read, too, behind `BROKER_PORT`);
3. the TOML file that `--config FILE` (or `BROKER_CONFIG`) names, with lines such as `heartbeat_s = 10`;
4. the default.

`Settings(...)` by itself takes arguments and defaults only. A name that does not exist, or a value that makes no sense,
is refused at start with a sentence that names it. A yes/no
is written `yes`, `true`, `on` or `1`, and the contrary; in TOML `true` and `false`.
Lists are separated by commas in the environment and with `--set`.

"""


def settings_table() -> str:
    """Markdown: one row for each field of Settings, in its order."""
    rows = ["| setting | default | unit | reason | environment |", "|---|---|---|---|---|"]
    for each in fields(Settings):
        unit, reason = each.metadata["unit"], each.metadata["reason"]
        rows.append(f"| `{each.name}` | {_shown(each.default)} | {unit} | {reason} | `BROKER_{each.name.upper()}` |")
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
    print(HEAD + settings_table(), end="")
