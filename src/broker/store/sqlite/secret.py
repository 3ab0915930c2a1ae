"""The secret that signs the tokens of a server on SQLite: a file beside its log."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from broker.errors import SettingsError

_SECRET_BYTES_MIN = 32  # RFC 7518, section 3.2: at least as long as the hash


def read_secret(file: Path) -> str:
    """Returns the secret in ``file``, which is made if there is none. Raises SettingsError if the file cannot be used,
    or if its secret is too short to be safe."""
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
    """Makes ``file`` with this secret if there is none. Raises SettingsError if it has another one: the tokens of the
    log that the secret comes from would not be valid there."""
    try:
        if not file.exists():
            _write_secret(file, secret)
    except OSError as error:
        raise SettingsError(f"cannot write {file}: {error}") from None
    if read_secret(file) != secret:
        raise SettingsError(f"{file} exists, and has another secret; move it away")


def _write_secret(file: Path, secret: str) -> None:
    """The file is complete, private and on disk before it gets its name, so a crash leaves none of it or all of it."""
    # mkstemp makes a new name, and mode 0600. A name with the process id would not be new: in a container that is the
    # same at each start.
    descriptor, name = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
    new = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(secret + "\n")
        output.flush()
        os.fsync(output.fileno())
    try:
        os.link(new, file)  # unlike a rename, it fails if another process was first: then that one's secret counts
    except FileExistsError:
        pass
    finally:
        new.unlink()
