"""The numbered SQL scripts that make a log's schema, one folder for each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from broker.errors import SettingsError


class Migrations:
    """The scripts of one kind of database, in order. Script number n makes version n of the schema out of n - 1."""

    def __init__(self, package: str) -> None:
        """``package`` has a folder ``migrations``, whose files begin with their numbers: 0001, 0002, ..."""
        folder = resources.files(package) / "migrations"
        files = sorted(folder.iterdir(), key=lambda file: file.name)
        self._scripts = [file.read_text("utf-8") for file in files]

    @property
    def newest(self) -> int:
        """The version that this Broker writes."""
        return len(self._scripts)

    def after(self, version: int) -> Iterator[tuple[int, str]]:
        """The number and the text of each script that a log of this version lacks."""
        yield from enumerate(self._scripts[version:], version + 1)

    def upto(self, version: int) -> list[str]:
        """The texts of the scripts that made a log of this version."""
        return self._scripts[:version]

    def check(self, version: int, name: str, advice: str = "update Broker") -> None:
        """Raises SettingsError for the log ``name`` if a newer Broker has written it.

        It may have tables or columns that this Broker knows nothing of. Who only reads it would silently leave them
        out, also of a backup, and who writes to it might break what they promise."""
        if version > self.newest:
            raise SettingsError(
                f"{name} was written by a newer Broker (schema {version}, this one knows {self.newest}); {advice}"
            )
