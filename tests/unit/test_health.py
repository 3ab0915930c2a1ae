"""Who may read the metrics, by address."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from broker.settings import Settings
from broker.web.app import create_app

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 200),
        ("127.8.9.1", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("192.0.2.1", 403),
        ("::ffff:192.0.2.1", 403),
        ("", 403),
    ],
)
async def test_metrics_are_for_addresses_of_this_machine_only(tmp_path: Path, address: str, status: int) -> None:
    app = create_app(Settings(data=tmp_path))
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
        assert (await client.get("/metrics")).status_code == status
