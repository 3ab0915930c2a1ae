"""The numbered SQL scripts that make the schema of a log. Each kind of database has a folder of them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from broker.errors import SettingsError


class Migrations:
    """The scripts of one kind of database, in order. Script number n turns version n - 1 of the schema into version
    n."""

    def __init__(self, package: str) -> None:
        """``package`` has a folder ``migrations``, whose files begin with their numbers: 0001, 0002, ..."""
        folder = resources.files(package) / "migrations"
        files = sorted(folder.iterdir(), key=lambda file: file.name)
        self._scripts = [file.read_text("utf-8") for file in files]

    @property
    def newest(self) -> int:
        """The newest version of the schema, which this Broker writes."""
        return len(self._scripts)

    def after(self, version: int) -> Iterator[tuple[int, str]]:
        """Yields the number and the text of each script that a log with this version of the schema still needs."""
        yield from enumerate(self._scripts[version:], version + 1)

    def upto(self, version: int) -> list[str]:
        """Returns the texts of the scripts that made a log with this version of the schema."""
        return self._scripts[:version]

    def check(self, version: int, name: str, advice: str = "update Broker") -> None:
        """Raises SettingsError if a newer Broker has written the log ``name``.

        Such a log may have tables or columns that this Broker does not know. A command that only reads would silently
        leave them out, for example of an export, and a program that writes might break the rules that the newer Broker
        relies on."""
        if version > self.newest:
            raise SettingsError(
                f"{name} was written by a newer Broker (schema {version}, this one knows {self.newest}); {advice}"
            )
