"""Prints the OpenAPI 3.1 document, made from the same types that the endpoints use: `make docs` writes it."""

from __future__ import annotations

import json
from typing import Any

from broker import __version__
from openapi.accounts import account_routes
from openapi.events import event_routes
from openapi.operations import plain
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
        "/openapi.json": {"get": plain("this document")},
        "/docs": {"get": plain("this document, to read")},
    }


if __name__ == "__main__":
    print(json.dumps(document(), indent=1, ensure_ascii=False))
