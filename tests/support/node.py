"""Node.js, which the tests' packages from PyPI bring along."""

from __future__ import annotations

import os
import shutil

import pytest

needs_node = pytest.mark.skipif(
    shutil.which("node") is None and not os.environ.get("CI"),
    reason="THE CLIENT WAS NOT TESTED: type make test, which installs Node.js",
)
