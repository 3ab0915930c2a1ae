"""The versions of the rules in a log, as the commands see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from broker.cli.client import ClientError
from broker.cli.operator import Ask
from broker.errors import BadRequest
from broker.names import RULES_EVENT
from broker.rules.file import parse_file
from broker.rules.rules import Rules


class Version(NamedTuple):
    """One version. Times are in seconds since 1970."""

    uuid: str
    time: float
    id: str | None  # None: it was not published
    cancelled: bool
    reason: str  # why the server has cancelled it, or ""
    user: str  # "": the operator
    text: str

    @property
    def position(self) -> int:
        return int((self.id or "0").rpartition("-")[2])

    @property
    def scheduled(self) -> bool:
        return self.id is None and not self.cancelled

    @property
    def rules(self) -> Rules:
        """Raises ClientError."""
        try:
            return parse_file(self.text).rules
        except BadRequest as error:
            raise ClientError(
                f"this version of Broker cannot read the rules of {shown_time(self.time)}: {error}"
            ) from None


def read_versions(ask: Ask) -> list[Version]:
    """Returns all versions, in the order in which they were inserted. Raises ClientError."""
    return [_version(record) for record in ask.json("GET", f"/collections/{quote(RULES_EVENT)}")]


def _version(record: dict[str, Any]) -> Version:
    return Version(
        record["uuid"], record["timestamp"], record["id"], record["cancelled"], record.get("reason", ""),
        record["user"] or "", record["data"]["toml"],
    )  # fmt: skip


def in_force(versions: Sequence[Version], at: float | None = None) -> Version | None:
    """Returns the version that is in force now, or that will be at a time, by what is scheduled now."""
    published = [version for version in versions if version.id is not None]
    due = [version for version in versions if version.scheduled and at is not None and version.time <= at]
    if due:
        return sorted(due, key=lambda version: version.time)[-1]
    return max(published, key=lambda version: version.position, default=None)


def shown_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
