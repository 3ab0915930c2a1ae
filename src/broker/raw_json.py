"""The JSON that a publisher sends, kept as it was sent: key order, number text, escapes. Only white space outside of
strings is removed."""

from __future__ import annotations

import re
import secrets
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable
from typing import TypeVar

import msgspec

from broker.errors import BadRequest

# Many JSON parsers are recursive, and fail or crash at a depth of about 1,000. No page needs JSON of that depth.
DEPTH_MAX = 256
_TOO_DEEP = f"the JSON is nested more than {DEPTH_MAX} deep; send it flatter, or as a string"

_SENTENCE_MAX = 200  # the longest message, in characters

# The quantifier is possessive, and the closing quote is optional. So a match never fails, and no hostile text can make
# the regular expression scan the same bytes again and again.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# The escape of half a surrogate pair is valid JSON (RFC 8259, section 8.2), and JavaScript writes it, but msgspec
# refuses it. The alternatives are, in order: a whole pair, a lone half (the group), any other escape.
_LONE_SURROGATE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)

# The bytes that make no difference to the depth of a JSON text without its strings.
_NEITHER_BRACKET_NOR_COMMA = bytes(set(range(256)) - set(b"[]{},"))

_SPACE, _TAB, _LF, _CR = b" \t\n\r"

_elements = msgspec.json.Decoder(list[msgspec.Raw])

_T = TypeVar("_T")
Compact = Callable[[bytes], bytes]


def decode(decoder: msgspec.json.Decoder[_T], body: bytes, what: str = "the body") -> tuple[_T, Compact]:
    """Parses a request's body. Returns the value, and a function for the value's ``msgspec.Raw`` fields. That function
    returns what is stored of a field: the JSON as it was sent, without white space outside of strings.

    Raises BadRequest that names the field and what is wrong with it. ``what`` is what the message calls the body."""
    _check_utf8(body, what)
    # Counting brackets is cheap, and shows for nearly every body that it is not nested too deep. Only for the other
    # bodies, the brackets within strings must be excluded, which takes longer.
    if (
        len(body) > DEPTH_MAX
        and body.count(b"[") + body.count(b"{") > DEPTH_MAX
        and _deep_at(body, DEPTH_MAX) is not None
    ):
        raise BadRequest(_TOO_DEEP)
    try:
        return decoder.decode(body), _compact
    except msgspec.ValidationError as error:
        raise BadRequest(_sentence(str(error))) from None
    except msgspec.DecodeError as error:
        if not body.strip():
            raise BadRequest(f"{what} is empty; send a JSON object") from None
        if _may_have_halves(body):
            return _decode_halves(decoder, body, what)
        raise _not_json(what, body, error) from None


def decode_array(decoder: msgspec.json.Decoder[list[_T]], body: bytes) -> tuple[list[_T], Compact] | None:
    """Parses all elements of an array in one call, which takes a third of the time that one call for each would take.
    Returns the elements, and the function for their ``msgspec.Raw`` fields, which raises BadRequest if a field is
    nested too deep.

    Returns None if an element has to be refused, or is valid only for ``decode``. The caller then has to ``split`` the
    array and ``decode`` each element by itself, which finds out which element is at fault, and why."""
    _check_utf8(body, "the body")
    try:
        return decoder.decode(body), _compact_flat
    except (msgspec.MsgspecError, RecursionError):
        return None


def decode_lines(decoder: msgspec.json.Decoder[_T], lines: list[bytes]) -> tuple[list[_T], Compact] | None:
    """Does the same as ``decode_array``, for lines that ``split_lines`` returned."""
    try:
        b"\n".join(lines).decode()
        return [decoder.decode(line) for line in lines], _compact_flat
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return None


def split(body: bytes) -> list[bytes]:
    """Returns the elements of an array, each as it was sent. Raises BadRequest if the body is not JSON."""
    hidden, mark = _hide_halves(body)
    try:
        return [bytes(each).replace(mark, b"\\u") for each in _elements.decode(hidden)]
    except msgspec.DecodeError as error:
        raise _not_json("the body", body, error) from None
    except RecursionError:
        refusal = BadRequest(_TOO_DEEP)
        refusal.index = _deep_at(body, DEPTH_MAX + 1)
        raise refusal from None


def split_lines(body: bytes) -> list[bytes]:
    """Returns the lines that are not blank."""
    return [line for line in body.split(b"\n") if line.strip(b" \t\r")]


def _compact(raw: bytes) -> bytes:
    # Most data has no white space at all and is compact already. Looking for the four bytes takes a fifth of the time
    # of a copy. They are integers, because ``b" " in raw`` would take seven times as long as ``32 in raw``.
    if _SPACE not in raw and _LF not in raw and _TAB not in raw and _CR not in raw:
        return raw
    return msgspec.json.format(raw, indent=-1)


def _compact_flat(raw: bytes) -> bytes:
    """Does the same as ``_compact``, for a field of a record that was parsed together with others. The record itself is
    one level of the depth. Raises BadRequest if the field is nested too deep."""
    if (
        len(raw) > DEPTH_MAX
        and raw.count(b"[") + raw.count(b"{") >= DEPTH_MAX
        and _deep_at(raw, DEPTH_MAX - 1) is not None
    ):
        raise BadRequest(_TOO_DEEP)
    return _compact(raw)


def _may_have_halves(body: bytes) -> bool:
    """Returns whether the body has an escape of a surrogate, which may be a lone half."""
    return b"\\ud" in body or b"\\uD" in body


def _hide_halves(body: bytes) -> tuple[bytes, bytes]:
    """Hides the escapes of half a surrogate pair from msgspec. Returns the body, in which a mark replaces the ``\\u``
    that they begin with, and the mark."""
    mark = secrets.token_hex(12).encode()  # random, so that nobody can send a body that contains it
    return _LONE_SURROGATE.sub(lambda match: mark + match[1] if match[1] else match[0], body), mark


def _decode_halves(decoder: msgspec.json.Decoder[_T], body: bytes, what: str) -> tuple[_T, Compact]:
    """Does the same as ``decode``, for a body with escapes of half a surrogate pair. The function that it returns
    restores them."""
    hidden, mark = _hide_halves(body)
    try:
        value = decoder.decode(hidden)
    except msgspec.ValidationError as error:
        raise BadRequest(_sentence(str(error)).replace(mark.decode(), "\\u")) from None
    except msgspec.DecodeError as error:
        raise _not_json(what, body, error) from None
    for name in getattr(value, "__struct_fields__", ()):
        text = getattr(value, name)
        if isinstance(text, str | list) and mark.decode() in str(text):
            raise BadRequest(f"{name}: half a surrogate pair is no character; take it out")
    return value, lambda raw: _compact(raw).replace(mark, b"\\u")


def _check_utf8(body: bytes, what: str) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise _other_encoding(what, body) or BadRequest(f"{what} is not UTF-8 (byte {error.start})") from None


def _deep_at(text: bytes, depth_max: int) -> int | None:
    """Returns the index of the first element of the outermost array, or object, within which the depth exceeds
    ``depth_max``. Returns None if there is none."""
    depth = index = 0
    for byte in _STRING.sub(b"", text).translate(None, _NEITHER_BRACKET_NOR_COMMA):
        if byte in b"[{":
            depth += 1
            if depth > depth_max:
                return index
        elif byte in b"]}":
            depth -= 1
        elif depth == 1:
            index += 1
    return None


def _other_encoding(what: str, body: bytes) -> BadRequest | None:
    """Returns the error for a text in another encoding, if the first bytes of the text show which encoding it is."""
    if body.startswith(b"\x1f\x8b"):
        return BadRequest(f"{what} is compressed (gzip); send it as it is")
    # In UTF-16 and UTF-32, ASCII characters have zero bytes.
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in body[:4]:
        return BadRequest(f"{what} is UTF-16 or UTF-32; send it as UTF-8")
    return None


def _not_json(what: str, body: bytes, error: msgspec.DecodeError) -> BadRequest:
    if other := _other_encoding(what, body):
        return other
    return BadRequest(f"{what} is not JSON: {str(error).removeprefix('JSON is malformed: ')}")


def _sentence(message: str) -> str:
    """Returns msgspec's message with the field first: ``Expected `str`, got `int` - at `$.event``` becomes ``event:
    expected `str`, got `int```."""
    text, _, path = message.partition(" - at `$.")
    text = text[0].lower() + text[1:]
    if len(text) > _SENTENCE_MAX:  # it may contain the name of an unknown field, which may be long
        text = text[:_SENTENCE_MAX] + "…"
    return f"{path.rstrip('`')}: {text}" if path else text
