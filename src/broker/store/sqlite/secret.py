"""What signs the tokens of a server that keeps its log on SQLite: a file beside it."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from broker.errors import SettingsError

_SECRET_BYTES_MIN = 32  # RFC 7518, section 3.2: at least as long as the hash


def read_secret(file: Path) -> str:
    """The secret in ``file``, made if there is none. Raises SettingsError for one that is too short to be safe."""
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            _write_secret(file, secrets.token_hex(_SECRET_BYTES_MIN))
        secret = file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot use the token secret in {file}: {error}") from None
    if len(secret.encode()) < _SECRET_BYTES_MIN:
        raise SettingsError(f"the token secret in {file} is shorter than {_SECRET_BYTES_MIN} bytes; remove the file")
    return secret


def keep_secret(file: Path, secret: str) -> None:
    """Makes ``file`` if there is none. Raises SettingsError if it has another secret: tokens would not hold there."""
    try:
        if not file.exists():
            _write_secret(file, secret)
    except OSError as error:
        raise SettingsError(f"cannot write {file}: {error}") from None
    if read_secret(file) != secret:
        raise SettingsError(f"{file} is there, and has another secret; move it away")


def _write_secret(file: Path, secret: str) -> None:
    """Complete, private and on disk before it has its name: a crash leaves either none or all of it."""
    # A name of its own, mode 0600: in a container the process number is the same at each start.
    descriptor, name = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
    new = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(secret + "\n")
        output.flush()
        os.fsync(output.fileno())
    try:
        os.link(new, file)  # fails if another process was first: then that one's counts
    except FileExistsError:
        pass
    finally:
        new.unlink()
