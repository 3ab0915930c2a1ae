"""Prints the page at ``/docs``, made from the OpenAPI document: `make docs` writes it. It loads nothing from another
host."""

from __future__ import annotations

import json
import sys
from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Broker: the API</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
  code, pre { font: 14px/1.5 ui-monospace, monospace; }
  pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .4rem; }
  summary { cursor: pointer; padding: .4rem 0; border-bottom: 1px solid #8884; }
  summary b { display: inline-block; min-width: 3.5rem; font-weight: 600; }
  table { border-collapse: collapse; width: 100%%; }
  td { border-bottom: 1px solid #8882; overflow-wrap: anywhere; }
  td:first-child { width: 30%%; }
  td, th { text-align: left; padding: .2rem .6rem .2rem 0; vertical-align: top; }
</style>
<main>
<h1>Broker</h1>
<p>%(description)s The same for programs: <a href="openapi.json">openapi.json</a>.</p>
<pre><code>const source = new EventSource("events");
source.addEventListener("user", e => console.log(JSON.parse(e.data)));</code></pre>
%(calls)s
<h2>Types</h2>
%(types)s
</main>
</html>
"""


def page(spec: dict[str, Any]) -> str:
    """The document as HTML."""
    calls = [_call(method, path, call) for path, methods in spec["paths"].items() for method, call in methods.items()]
    types = [
        f"<details><summary><code>{name}</code> {_text(schema.get('description', ''))}</summary>"
        f"{_fields(name, schema)}</details>"
        for name, schema in spec["components"]["schemas"].items()
    ]
    return _PAGE % {
        "description": _text(spec["info"]["description"]),
        "calls": "".join(calls),
        "types": "".join(types),
    }


def _call(method: str, path: str, call: dict[str, Any]) -> str:
    security = call.get("security", [])
    lock = "" if not security or {} in security else " (with a token)"  # {}: it is not needed
    parts = [f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> {_text(call['summary'])}{lock}"]
    parts.append("</summary><table>")
    parts += [_row(f"{each['in']} {each['name']}", each["description"]) for each in call.get("parameters", ())]
    if "requestBody" in call:
        parts.append(f"<tr><td>body<td>{_type(call['requestBody']['content'])}")
    for status, answer in call["responses"].items():
        parts.append(f"<tr><td>{status}<td>{_text(answer['description'])} {_type(answer.get('content', {}))}")
    return "".join([*parts, "</table></details>"])


def _fields(name: str, schema: dict[str, Any]) -> str:
    """The id is inside of the details: a link to it opens them."""
    required = schema.get("required", ())
    rows = (
        _row(
            field if field in required else f"{field} (optional)",
            ": ".join(filter(None, (_kind(each), each.get("description")))),
        )
        for field, each in schema.get("properties", {}).items()
    )
    return f'<table id="{name}">{"".join(rows)}</table>'


def _kind(schema: dict[str, Any]) -> str:
    """The type of a field in words, or the values that it may have."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    kinds = schema.get("type") or [f"`{value}`" for value in schema.get("enum", ())]
    kinds = kinds or [_kind(each) for each in schema.get("anyOf", ())]
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _type(content: dict[str, Any]) -> str:
    return " or ".join(" or ".join(_links(body["schema"])) or escape(mime) for mime, body in content.items())


def _links(schema: dict[str, Any]) -> list[str]:
    """To the types that a schema names."""
    if "items" in schema:
        return [f"array of {link}" for link in _links(schema["items"])]
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [f'<a href="#{name}">{name}</a>']
    return [link for each in schema.get("oneOf") or schema.get("anyOf", ()) for link in _links(each)]


def _row(name: str, text: str) -> str:
    return f"<tr><td><code>{escape(name)}</code><td>{_text(text)}"


def _text(text: str) -> str:
    """What stands between backticks is code."""
    return "".join(f"<code>{part}</code>" if odd % 2 else part for odd, part in enumerate(escape(text).split("`")))


if __name__ == "__main__":
    print(page(json.load(sys.stdin)), end="")
