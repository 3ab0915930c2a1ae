"""The documents, and the examples in them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
HTTP = (ROOT / "docs" / "http.md").read_text()


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: str, *languages: str) -> list[Block]:
    """What stands between fences."""
    found = [Block(*each) for each in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
    return [block for block in found if block.language in languages]


def section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


class Shell:
    """One session of a shell, as a person has it: variables stay from one command to the next."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._process = subprocess.Popen(
            ["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )

    def type(self, command: str) -> str:
        """What it prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho; echo --done--\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            if line == "--done--\n":
                return printed.strip()
            printed += line
        raise AssertionError(f"the shell ended at {command!r}")

    def close(self) -> None:
        self._process.communicate(timeout=20)
