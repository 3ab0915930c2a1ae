"""Prints docs/settings.md, made from the one table of settings in the source: `make docs` writes it."""

from __future__ import annotations

from pathlib import Path

from broker.settings import TABLE

HEAD = """# Settings

Made from `src/broker/settings.py` by `make docs`; a test fails if the two differ.

A setting is looked for in this order, and the first that is found counts:

1. an argument: `--host`, `--port`, `--data`, `--database`, `--workers`, `--origin`, `--allow-header`, and
   `--set NAME=VALUE` for every other one; in a library call, `broker_run(..., NAME=VALUE)` or `Settings(NAME=VALUE)`;
2. the environment: `BROKER_` and the name in capitals (`PORT` is read, too, behind `BROKER_PORT`);
3. the TOML file that `--config FILE` (or `BROKER_CONFIG`) names, with lines such as `heartbeat_s = 10`, in UTF-8;
4. the default.

`Settings(...)` by itself takes arguments and defaults only. A value that makes no sense is refused at start, before
anything is opened, with a sentence that names the setting and where its value came from: `port (BROKER_PORT)`,
`heartbeat_s (broker.toml, line 3)`, `host (argument)`. So is a name that does not exist, in arguments and in the file.

A yes/no is written `yes`, `true`, `on` or `1`, and the contrary; in TOML `true` and `false`. Lists are separated by
commas in the environment and with `--set`; `none` is the empty list. White space around a value, such as the line break
at the end of a secret's file, does not count (around a path only line breaks at its end); quotation marks around it are
refused.

Of the environment: an empty variable is not set; only `BROKER_DATABASE` is refused then, since another log, an empty
one, would be served in place of yours. A variable `BROKER_...` that is no setting, mostly a slip, has no effect, and a
warning in the log names it and the setting that is nearest. `BROKER_PORT=tcp://10.96.0.12:8080`, which Kubernetes sets
for a Service that is named `broker`, is not taken for the port; the log says so. `DATABASE_URL` is not read.

"""


def settings_table() -> str:
    """Markdown: one row for each field of Settings, in its order."""
    rows = ["| setting | default | unit | reason | environment |", "|---|---|---|---|---|"]
    for each in TABLE:
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
