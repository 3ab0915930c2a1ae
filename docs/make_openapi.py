"""Prints the OpenAPI 3.1 document, made from the same types that the endpoints use: `make docs` writes it."""

from __future__ import annotations

import json
from typing import Any

from broker import __version__
from openapi.accounts import account_routes
from openapi.events import event_routes
from openapi.operations import call, parameter, plain
from openapi.schemas import schemas


def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Broker",
            "version": __version__,
            "description": "A zero-code real-time API server: insert events as JSON, and every connected page receives "
            "them.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "."}],  # where this document is: Broker may be mounted under a path
        "paths": {**account_routes(), **event_routes(), **_server_routes()},
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "a JSON Web Token, or an API key"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "__Host-broker", "description": "`POST /session`"},
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "`POST /session`"},
            },
        },
    }


def _server_routes() -> dict[str, Any]:
    return {
        "/about": {"get": call("what a page wants to know before a login", "AboutView", 403, 503, public=True)},
        "/": {"get": plain("the console, a page; not with a front-end", 404)},
        "/$console": {"get": plain("the console, a page, also with a front-end", 404)},
        "/$console/{version}/{file}": {"get": _part("a part of the console", "the page of the console")},
        "/healthz": {"get": plain("the process runs")},
        "/readyz": {"get": plain("the store is in reach", 503)},
        "/metrics": {"get": plain("figures in Prometheus' text format, for this machine or with a token", 403)},
        "/broker.js": {"get": plain("the client for pages, as a JavaScript module")},
        "/broker/{version}/{file}": {"get": _part("a part of the client", "`/broker.js`")},
        "/broker.d.ts": {"get": plain("the types of the client, for TypeScript")},
        "/broker.tgz": {"get": plain("the client as a package, for npm")},
        "/llms.txt": {"get": plain("how to build a page with the client, for coding agents")},
        "/openapi.json": {"get": plain("this document")},
        "/docs": {"get": plain("this document, to read")},
    }


def _part(what: str, where: str) -> dict[str, Any]:
    text = {"type": "string"}
    return plain(f"{what}, which never changes", 400, 404) | {
        "parameters": [
            parameter("version", "path", text, f"a hash of all parts; {where} has the current one"),
            parameter("file", "path", text, "the name of the part"),
        ]
    }


if __name__ == "__main__":
    print(json.dumps(document(), indent=1, ensure_ascii=False))
