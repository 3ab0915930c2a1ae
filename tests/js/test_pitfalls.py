"""The table of README.md says where each pitfall of a client is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
ROWS = re.findall(r"^\| T(\d+) \| (.*) \| (.*) \|$", (TESTS / "js" / "README.md").read_text(), re.MULTILINE)
# The title of a test in JavaScript, or the docstring of one in Python, begins with the numbers.
_NAMED = r'(?:test\(["`]|""")(?:T\d+, )*T{}\b'


def test_there_is_a_row_for_each_of_the_fifty() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 51))


@pytest.mark.parametrize(("number", "what", "where"), ROWS, ids=[f"T{number}" for number, _, _ in ROWS])
def test_a_test_of_each_file_has_the_number(number: str, what: str, where: str) -> None:
    files = [name for name in re.findall(r"`([^`]*)`", where) if "/" in name]
    assert files or where.startswith(("later: ", "no browser here: ")), what
    named = re.compile(_NAMED.format(number))
    assert [name for name in files if not named.search((TESTS / name).read_text())] == []
