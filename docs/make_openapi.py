"""Prints the OpenAPI 3.1 document, made from the same types that the endpoints use: `make docs` writes it."""

from __future__ import annotations

import json
from typing import Any

from broker import __version__
from openapi.accounts import account_routes
from openapi.events import event_routes
from openapi.operations import parameter, plain
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
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _server_routes() -> dict[str, Any]:
    return {
        "/healthz": {"get": plain("the process runs")},
        "/readyz": {"get": plain("the store is in reach", 503)},
        "/metrics": {"get": plain("figures in Prometheus' text format, for this machine or with a token", 403)},
        "/broker.js": {"get": plain("the client for pages, as a JavaScript module")},
        "/broker/{version}/{file}": {"get": _module()},
        "/broker.d.ts": {"get": plain("the types of the client, for TypeScript")},
        "/broker.tgz": {"get": plain("the client as a package, for npm")},
        "/llms.txt": {"get": plain("how to build a page with the client, for coding agents")},
        "/openapi.json": {"get": plain("this document")},
        "/docs": {"get": plain("this document, to read")},
    }


def _module() -> dict[str, Any]:
    text = {"type": "string"}
    return plain("a part of the client, which never changes", 400, 404) | {
        "parameters": [
            parameter("version", "path", text, "a hash of all parts; `/broker.js` has the current one"),
            parameter("file", "path", text, "the name of the part"),
        ]
    }


if __name__ == "__main__":
    print(json.dumps(document(), indent=1, ensure_ascii=False))
