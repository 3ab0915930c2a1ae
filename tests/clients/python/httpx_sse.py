"""httpx-sse reads one response: to connect again is its user's part."""

from __future__ import annotations

import time

import httpx
from httpx_sse import connect_sse

from tests.clients.python.program import SAVED_ID, URL, complain, deliver


def main() -> None:
    last_id, retry_s = SAVED_ID, 1.0
    timeout = httpx.Timeout(10, read=30)
    with httpx.Client(timeout=timeout) as client:
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with connect_sse(client, "GET", URL, headers=headers) as source:
                    for event in source.iter_sse():
                        deliver(event.event, event.data, event.id)
                        last_id = event.id or last_id
                        retry_s = retry_s if event.retry is None else event.retry / 1000
            except httpx.TransportError as error:
                complain(error)
            time.sleep(retry_s)


main()
