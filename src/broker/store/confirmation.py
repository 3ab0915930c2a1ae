"""The mark of a folder into which ``broker restore`` has put a log with rules. It stays there until the operator
confirms the rights that the backup has brought back. Until then no server uses the folder, and nothing that is due is
published: the operator must be able to take rights away before anything happens by them."""

from __future__ import annotations

import shlex
from pathlib import Path

_MARK = "rules-unconfirmed"


def mark(folder: Path, *, unconfirmed: bool) -> None:
    """Sets the mark, or removes it. Whoever restores a log holds the folder's lock."""
    file = folder / _MARK
    file.touch(0o600) if unconfirmed else file.unlink(missing_ok=True)


def unconfirmed(folder: Path) -> str:
    """Returns a sentence that says what to do first, if the folder has the mark, and otherwise "". The caller holds the
    folder's lock, so that no restore sets the mark after that."""
    if not (folder / _MARK).exists():
        return ""
    option = f"--data {shlex.quote(str(folder))}"
    looks = (f"`broker {command} {option}`" for command in ("rules show", "user list", "key list"))
    return (
        f"the log in {folder} was restored, with the rights of that time: look at them ({', '.join(looks)}), then say "
        f"`broker rules confirm {option}`"
    )
