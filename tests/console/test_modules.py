"""Runs the tests of the console's modules that need no page, in Node.js. The screens are tested in tests/browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.node import needs_node
from tests.support.typescript import TYPESCRIPT, needs_typescript

HERE = Path(__file__).parent


@needs_node
@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.js")), ids=lambda file: str(file.name))
def test_the_modules_do_what_their_tests_say(file: Path) -> None:
    command = ["node", "--test", "--test-reporter=spec", str(file)]
    environment = {**os.environ, "PYTHON": sys.executable}
    run = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_typescript
def test_the_modules_have_the_types_that_they_say() -> None:
    command = ["node", str(TYPESCRIPT), "--project", str(HERE)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
