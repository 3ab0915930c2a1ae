"""No part of the source has more code lines than CONTRIBUTING.md allows it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter

from tests.support.documents import ROOT

SOURCE = ROOT / "src" / "broker"
ROWS = re.findall(r"^\| `([\w./]+)` \| ([\d,]+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
BUDGETS = {part: int(most.replace(",", "")) for part, most in ROWS}
FILE_MAX = 400  # all its lines
ENGINE_MAX = 12_458  # everything but what an operator and a terminal need
ALL_MAX = 15_274
_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(source: str) -> int:
    """How many lines are neither blank nor a comment nor part of a docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str()), lineno=first, end_lineno=int(last)), *_]:
                    lines.difference_update(range(first, last + 1))
    return len(lines)


def test_code_lines_leave_out_what_is_said_in_words() -> None:
    assert (
        code_lines('"""A\nmodule."""\n\nx = 1  # one\n# two\n\n\ndef f():\n    """F."""\n    return """\n\n"""\n') == 5
    )


def test_no_part_has_more_code_lines_than_its_budget() -> None:
    found: Counter[str] = Counter()
    for file in SOURCE.rglob("*.py"):
        found[file.parent.relative_to(SOURCE).as_posix()] += code_lines(file.read_text())
    assert found.keys() == BUDGETS.keys()
    assert {part: count for part, count in found.items() if count > BUDGETS[part]} == {}


def test_the_budgets_are_within_those_of_the_whole() -> None:
    assert sum(BUDGETS.values()) <= ALL_MAX
    assert sum(most for part, most in BUDGETS.items() if part not in {"operations", "cli"}) <= ENGINE_MAX


def test_no_file_is_too_long() -> None:
    lengths = {file.relative_to(SOURCE).as_posix(): len(file.read_text().splitlines()) for file in SOURCE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > FILE_MAX} == {}
