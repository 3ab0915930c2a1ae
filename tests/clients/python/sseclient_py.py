"""sseclient-py reads one response: to connect again is its user's part."""

from __future__ import annotations

import time

import requests
import sseclient

from tests.clients.python.program import SAVED_ID, URL, complain, deliver


def main() -> None:
    last_id, retry_s = SAVED_ID, 1.0
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        try:
            response = requests.get(URL, stream=True, headers=headers, timeout=30)
            for event in sseclient.SSEClient(response).events():
                deliver(event.event, event.data, event.id)
                last_id = event.id or last_id
                retry_s = int(event.retry) / 1000 if event.retry else retry_s
        except requests.RequestException as error:
            complain(error)
        time.sleep(retry_s)


main()
