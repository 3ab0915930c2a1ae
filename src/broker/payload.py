"""The JSON that a publisher sends, kept as it was sent: key order, number text, escapes. Only white space goes."""

from __future__ import annotations

import re
import secrets
from typing import TypeVar

import msgspec

from broker.errors import BadRequest

# Deeper JSON is of no use to a page, and parsers recurse: many give up (or crash) near 1,000.
DEPTH_MAX = 256

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
# An escape of half a surrogate pair is valid JSON (RFC 8259, section 8.2) and JavaScript writes it, but msgspec refuses
# it. The alternatives in order: a whole pair, a lone half (the group), any other escape.
_LONE_SURROGATE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)

_T = TypeVar("_T")


def decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    """Parses a request's body into the decoder's type; raises BadRequest that names what is wrong.

    A field of type ``msgspec.Raw`` comes out as sent; give it to ``compact``."""
    _check_text(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(_sentence(str(error))) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not JSON: {_reason(error)}") from None
    except RecursionError:
        raise BadRequest(_too_deep()) from None


def compact(raw: bytes) -> bytes:
    """``raw`` without the white space outside of strings. ``raw`` must have come through ``decode``."""
    return msgspec.json.format(raw, indent=-1)


class Halves:
    """Hides escapes of half a surrogate pair from msgspec behind a mark, and puts them back."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(12).encode()  # random: a body cannot hold it beforehand

    def hide(self, body: bytes) -> bytes:
        return _LONE_SURROGATE.sub(lambda m: self._mark + m[1] if m[1] else m[0], body)

    def show(self, text: bytes) -> bytes:
        return text.replace(self._mark, b"\\u")

    def hidden_in(self, text: str) -> bool:
        return self._mark.decode() in text


def may_have_halves(body: bytes) -> bool:
    return b"\\ud" in body or b"\\uD" in body


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
    return f"{path.rstrip('`')}: {text}" if path else text
