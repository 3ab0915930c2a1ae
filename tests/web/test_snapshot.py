"""The snapshot as a stream receives it; unit/test_snapshot.py has the walk by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers import ServerProcess, streaming


@pytest.mark.parametrize("form", ["", "?frames=record"])
def test_a_snapshot_of_which_whole_pages_are_superseded_comes_in_full(tmp_path: Path, form: str) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as client:
        for version in range(3):
            batch = [{"event": f"e{n}", "data": [version, "x" * 1_000]} for n in range(200)]
            assert client.post("/insert", json=batch).status_code == 201
            with streaming(
                server, f"/events{form}"
            ) as reader:  # its pages are kept, and the next batch supersedes all of them
                reader.wait("$ready")
                records = [(frame.event, frame.json()) for frame in reader.records()]
                if form:
                    records = [(record["event"], record["data"]) for _, record in records]
                assert [(event, data[0]) for event, data in records] == [(f"e{n}", version) for n in range(200)]
                assert not reader.ended
