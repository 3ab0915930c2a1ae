"""The rules file of ``broker serve --rules``: applied when the server starts, and on SIGHUP."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from broker.errors import BadRequest, BrokerError, PreconditionFailed, SettingsError
from broker.names import RULES_EVENT
from broker.records import NewRecord, Record, make_uuid
from broker.rules.file import FILE_BYTES_MAX, RulesFile, parse_file
from broker.rules.rights import RulesData, encode_rules
from broker.rules.wider import widenings
from broker.settings import MIB, Settings
from broker.users import OPERATOR

if TYPE_CHECKING:  # the commands need no more of this module than what reads the file
    from broker.broker import Broker

logger = logging.getLogger("broker.server")

_TRIES = 5  # nodes that start at the same time may all have the file


def read_rules_file(file: Path) -> tuple[str, RulesFile]:
    """Returns the text, and what it says. Raises SettingsError."""
    try:
        with file.open("rb") as content:
            text = content.read(FILE_BYTES_MAX + 1).decode()
        parsed = parse_file(text)
    except OSError as error:
        raise SettingsError(f"rules: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"rules: {file} is not UTF-8") from None
    except BadRequest as error:
        raise SettingsError(f"rules: {file}: {error}") from None
    if not parsed.rules.rules:  # perhaps it is being written
        raise SettingsError(
            f"rules: {file}: without a table [[event]] only administrators could do anything; if that is meant, write "
            'one with name = "*" and read = "nobody"'
        )
    if failed := parsed.failed():
        raise SettingsError(f"rules: {file}: line {failed[0].line}: it is not as expected that {failed[0]}")
    return text, parsed


async def apply_rules_file(broker: Broker, settings: Settings) -> None:
    """Makes the rules of the file those of the log, unless they are already, were before, or are scheduled. Raises
    SettingsError if the file is wrong, or would make something wider.

    A file that equals an older version of the rules is most likely an old file, for example on a node that was not
    updated. To apply it would undo what was decided since, so it is not applied."""
    if settings.rules is None:
        return
    text, parsed = read_rules_file(settings.rules)
    for _ in range(_TRIES):
        versions = await _versions(broker)
        published = [record for record in versions if record.position is not None]
        # The texts are compared, and not the bytes of the JSON, in which the same text may be escaped otherwise.
        texts = [_text(record) for record in published]
        if text in texts[-1:]:
            return
        if text in texts:
            logger.warning(
                "the rules in %s are an older version of the rules of this log, and are not applied; `broker rules "
                "diff` shows how they differ, and `broker rules apply` applies them all the same", settings.rules,
            )  # fmt: skip
            return
        if any(record.position is None and not record.cancelled and _text(record) == text for record in versions):
            logger.info("the rules in %s are scheduled (`broker rules history`), and not in force yet", settings.rules)
            return
        if published and not settings.rules_may_widen:
            _check_not_wider(texts[-1], parsed, settings.rules)
        if await _insert(broker, text, published[-1].uuid if published else None, settings.rules):
            logger.info("the rules in %s are in force now", settings.rules)
            return
    raise SettingsError(f"rules: {settings.rules}: other rules are applied all the time; see `broker rules history`")


def _check_not_wider(text: str, parsed: RulesFile, file: Path) -> None:
    """Raises SettingsError if the file permits more than these rules."""
    try:
        wider = widenings(parse_file(text).rules, parsed.rules)
    except BadRequest as error:
        raise SettingsError(f"rules: this version of Broker cannot read the rules of this log: {error}") from None
    if wider:
        more = f", and {len(wider) - 1} more" if len(wider) > 1 else ""
        raise SettingsError(
            f"rules: {file} would make something wider: {wider[0]}{more}; `broker rules diff {file}` shows all; if "
            "that is meant, add --yes"
        )


async def _insert(broker: Broker, text: str, latest: UUID | None, file: Path) -> bool:
    """Returns False if other rules were applied since ``latest``, perhaps by another node, which has the same file.
    Raises SettingsError."""
    new = NewRecord(make_uuid(broker.clock() // 1_000), RULES_EVENT, encode_rules(text), "", if_latest=latest or "none")
    try:
        await broker.insert([new], OPERATOR)
    except PreconditionFailed:
        return False
    except BrokerError as error:
        raise SettingsError(f"rules: {file}: {error}") from error
    return True


def _text(record: Record) -> str:
    """Returns the text of a version, or "" if this version of Broker cannot read it."""
    try:
        return msgspec.json.decode(record.data, type=RulesData).toml
    except msgspec.MsgspecError:
        return ""


async def _versions(broker: Broker) -> list[Record]:
    """Returns the versions of the rules in the order of their publication; those that were not published come first."""
    page = await broker.store.log_end(RULES_EVENT, None, None, descending=False)
    records: list[Record] = []
    after: int | None = None
    while page.last is not None and after != page.last:
        found = await broker.store.log(RULES_EVENT, after, page.last, MIB, descending=False)
        after = found[-1].number
        records += found
    return sorted(records, key=lambda record: record.position or 0)
