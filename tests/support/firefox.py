"""Firefox, driven over WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), which it speaks on a WebSocket."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

from tests.support.servers import wait_for


class Firefox:
    """A Firefox without a window on the screen, as long as it is entered, with one page."""

    def __init__(self, program: str, folder: Path) -> None:
        command = [program, "--headless", "--remote-debugging-port=0", "--no-remote", "--profile", str(folder)]
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        found = wait_for(
            lambda: re.search(r"BiDi listening on (ws://\S+)", (folder / "log").read_text()), 60, "Firefox"
        )
        self._socket = connect(f"{found[1]}/session", max_size=None)
        self._ids = itertools.count(1)
        self._send("session.new", capabilities={})
        self._context = self._send("browsingContext.create", type="tab")["context"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)

    def open(self, url: str) -> None:
        self._send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, which may be a promise."""
        text = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        answer = self._send("script.evaluate", expression=text, target={"context": self._context}, awaitPromise=True)
        assert answer["type"] == "success", answer
        return json.loads(answer["result"]["value"])

    def waits(self, expression: str) -> None:
        wait_for(lambda: self.evaluate(expression), what=expression)

    def keys(self, text: str, pause_ms: float) -> None:
        """Presses keys one after the other."""
        each = [({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}) for key in text]
        pause = {"type": "pause", "duration": int(pause_ms)}
        actions = [action for down, up in each for action in (down, up, pause)]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._send("input.performActions", context=self._context, actions=[keyboard])

    def _send(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                return answer["result"]
