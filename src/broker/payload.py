"""The JSON that a publisher sends, kept as it was sent: key order, number text, escapes. Only white space goes."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import TypeVar

import msgspec

from broker.errors import BadRequest

# Deeper JSON is of no use to a page, and parsers recurse: many give up (or crash) near 1,000.
DEPTH_MAX = 256

_SENTENCE_MAX = 200  # characters of a refusal

# Possessive, and the closing quote optional: a match never fails, so that no hostile text is scanned twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# An escape of half a surrogate pair is valid JSON (RFC 8259, section 8.2) and JavaScript writes it, but msgspec refuses
# it. The alternatives in order: a whole pair, a lone half (the group), any other escape.
_LONE_SURROGATE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)

_T = TypeVar("_T")


def decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> tuple[_T, Callable[[bytes], bytes]]:
    """Parses a request's body. Returns the value, and the function that turns its ``msgspec.Raw`` fields into what is
    stored: as sent, without the white space outside of strings.

    Raises BadRequest that names the field and what is wrong with it."""
    _check_text(body)
    try:
        return decoder.decode(body), _compact
    except msgspec.ValidationError as error:
        raise BadRequest(_sentence(str(error))) from None
    except msgspec.DecodeError as error:
        if not body.strip():
            raise BadRequest("the body is empty; send a JSON object") from None
        if b"\\ud" in body or b"\\uD" in body:
            return _decode_halves(decoder, body)
        raise BadRequest(f"the body is not JSON: {_reason(error)}") from None


def _compact(raw: bytes) -> bytes:
    return msgspec.json.format(raw, indent=-1)


def _decode_halves(decoder: msgspec.json.Decoder[_T], body: bytes) -> tuple[_T, Callable[[bytes], bytes]]:
    """Hides escapes of half a surrogate pair from msgspec behind a mark; the returned function puts them back."""
    mark = secrets.token_hex(12).encode()  # random: the body cannot hold it beforehand
    hidden = _LONE_SURROGATE.sub(lambda match: mark + match[1] if match[1] else match[0], body)
    try:
        value = decoder.decode(hidden)
    except msgspec.ValidationError as error:
        raise BadRequest(_sentence(str(error)).replace(mark.decode(), "\\u")) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not JSON: {_reason(error)}") from None
    for name in getattr(value, "__struct_fields__", ()):
        text = getattr(value, name)
        if isinstance(text, str) and mark.decode() in text:
            raise BadRequest(f"{name}: half a surrogate pair is no character; take it out")
    return value, lambda raw: _compact(raw).replace(mark, b"\\u")


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 (byte {error.start})") from None
    # Counting brackets is cheap and rules nearly every body out; strings are looked at for the rest only.
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX:
        depth = 0
        for byte in _STRING.sub(b"", body):
            if byte in b"[{":
                depth += 1
                if depth > DEPTH_MAX:
                    raise BadRequest(_too_deep())
            elif byte in b"]}":
                depth -= 1


def _too_deep() -> str:
    return f"the JSON is nested more than {DEPTH_MAX} deep; send it flatter, or as a string"


def _reason(error: msgspec.DecodeError) -> str:
    return str(error).removeprefix("JSON is malformed: ")


def _sentence(message: str) -> str:
    """msgspec's message with the field first: ``Expected `str`, got `int` - at `$.event``` → ``event: expected …``."""
    text, _, path = message.partition(" - at `$.")
    text = text[0].lower() + text[1:]
    if len(text) > _SENTENCE_MAX:  # an unknown field's name is as long as its sender likes
        text = text[:_SENTENCE_MAX] + "…"
    return f"{path.rstrip('`')}: {text}" if path else text
