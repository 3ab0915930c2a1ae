"""What the programs have in common: their arguments, and what they print."""

from __future__ import annotations

import json
import os
import sys

URL = sys.argv[1]
SAVED_ID = sys.argv[2] if len(sys.argv) > 2 else ""
# For libraries that stop at a line as long as the largest event: give them the option that helps.
LARGE = bool(os.environ.get("LARGE"))
LARGE_BYTES = 2 * 1024 * 1024  # twice the server's `body_bytes_max`

_output, sys.stdout = sys.stdout, sys.stderr  # some libraries print


def deliver(event: str | None, data: str | None, event_id: str | None) -> None:
    """Prints what the library delivered."""
    print(json.dumps({"event": event or "", "data": data or "", "id": event_id or ""}), file=_output, flush=True)


def complain(error: BaseException) -> None:
    print(f"{type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
