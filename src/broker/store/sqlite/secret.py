"""The secret that signs the tokens of a server on SQLite. It is in a file beside the log."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from broker.errors import SettingsError

_SECRET_BYTES_MIN = 32  # RFC 7518, section 3.2: at least as long as the hash


def read_secret(file: Path) -> str:
    """Returns the secret in ``file``. If there is no file, makes one with a new secret. Raises SettingsError if the
    file cannot be used, or if its secret is too short to be safe."""
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
    """Makes ``file`` with this secret if there is no file. Raises SettingsError if the file has another secret, because
    the tokens that were signed with this secret would not be valid there."""
    try:
        if not file.exists():
            _write_secret(file, secret)
    except OSError as error:
        raise SettingsError(f"cannot write {file}: {error}") from None
    if read_secret(file) != secret:
        raise SettingsError(f"{file} exists, and has another secret; move it away")


def _write_secret(file: Path, secret: str) -> None:
    """Makes a file with the secret. The file is complete, private and on disk before it gets its name, so after a crash
    there is either no file or a complete one."""
    # mkstemp finds a name that is not in use, and gives the file the mode 0600. A name that contains the process id
    # could be in use: in a container, the process id is the same at each start.
    descriptor, name = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
    new = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(secret + "\n")
        output.flush()
        os.fsync(output.fileno())
    try:
        # Unlike a rename, this fails if another process has made the file first. Then the secret of that process is
        # used.
        os.link(new, file)
    except FileExistsError:
        pass
    finally:
        new.unlink()
