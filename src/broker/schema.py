"""Infers a JSON Schema (2020-12) from the data of some records. No I/O and no clock.

GenSON merges the samples. It is recursive and slow, so it does not receive the samples themselves but their shapes. A
shape is a short JSON text with the same schema: every string is empty, every number is 0 or 0.5, and an array has each
shape of its items once. Two objects are marks, which no shape of real data contains, because a dot precedes the keys of
real objects in a shape: ``{"*": [...]}`` is an object whose keys are data, with the shapes of its values, and ``{"?":
0}`` stands for a value about which nothing is to be said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any

from genson import SchemaBuilder

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

# Called again and again by a long computation, which runs in a thread. It gives other threads their turns, and returns
# whether the time for the computation is over.
OutOfTime = Callable[[], bool]

SAMPLES_MAX = 20  # records from which one type is inferred: the newest
_SAMPLES_BYTES_MAX = 1_048_576  # to read so much takes half a second
_DEPTH_MAX = 32  # what is nested deeper is unknown; nobody could read the type
_FIELDS_MAX = 500  # an object with more keys counts as a map
_LIKE_FIELDS_MAX = 50  # the same if all its values are of one kind
_KEY_CHARS_MAX = 200  # a longer key is data
_SHAPE_CHARS_MAX = 32_768  # of one array or object; GenSON needs some milliseconds for so much
_SHAPES_CHARS_MAX = 4 * _SHAPE_CHARS_MAX  # of all samples; beyond, no further one is examined
_TOKENS = 16  # read before other threads may have their turn
_MAP, _UNKNOWN = "*", "?"
_UNKNOWN_SHAPE = '{"?":0}'

# What programs choose as keys and as parts of names: numbers, dates and times, uuids, and hashes and other random ids
# (ULIDs, cuids), which are long, have a digit, and letters of one case only.
_DATA = re.compile(
    r"-?\d+(?:\.\d+)?|\d{4}-\d\d(?:-\d\d)?(?:[T ][\d:.,Z+-]+)?"
    r"|(?i:[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12})"
    r"|(?=\D*\d)(?:[0-9a-f]{12,}|[0-9a-z]{20,}|[0-9A-Z]{20,})",
    re.ASCII,
)
# The tokens of JSON: a string, a number or a word, or a character of the structure. No token needs backtracking.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^][{},:"\s]++|[][{},:]')
_SCALARS = {'"': '""', "t": "true", "f": "true", "n": "null"}


def is_data(text: str) -> bool:
    """Returns whether a key of an object, or a segment of an event's name, looks like data and not like a word that a
    programmer has chosen."""
    return _DATA.fullmatch(text) is not None


def infer(samples: Iterable[bytes], out_of_time: OutOfTime) -> Schema:
    """Returns a schema that the samples satisfy. They are JSON, each of one record, and the most important one comes
    first: after ``_SAMPLES_BYTES_MAX``, no further one is examined.

    A field that a sample lacks is optional. ``null`` by itself says nothing about the type of a value, so the schema of
    such a value is empty until there is another sample. What is not examined before the time is over, or is too large
    or nested too deep, has an empty schema, too."""
    builder = SchemaBuilder(schema_uri=None)
    shapes: dict[str, None] = {}
    size = 0
    for sample in samples:
        shapes[_shape(sample, out_of_time)] = None
        size += len(sample)
        # GenSON cannot be interrupted, so what it receives is limited.
        if size > _SAMPLES_BYTES_MAX or sum(map(len, shapes)) > _SHAPES_CHARS_MAX:
            break
    for shape in shapes:
        builder.add_object(json.loads(_UNKNOWN_SHAPE if out_of_time() else shape))
    return _unless_null(_finished(builder.to_schema()))


def _tokens(text: str, out_of_time: OutOfTime) -> Iterator[str]:
    for number, match in enumerate(_TOKEN.finditer(text)):
        if number % _TOKENS == 0 and out_of_time():
            raise TimeoutError
        yield match[0]


def _shape(data: bytes, out_of_time: OutOfTime) -> str:
    try:
        return _Reader(data.decode(), out_of_time).read()
    except TimeoutError:
        return _UNKNOWN_SHAPE


class _Reader:
    """Reads one JSON text, and makes its shape. ``json.loads`` would hold the interpreter for up to 60 ms if the text
    has a megabyte, and all other threads would wait; this class stops for them again and again. It does not convert
    numbers, so it does not matter how many digits they have.

    Mutable state: the tokens that are not read yet."""

    def __init__(self, json_text: str, out_of_time: OutOfTime) -> None:
        self._next = partial(next, _tokens(json_text, out_of_time))

    def read(self, text: str = "", depth: int = 0) -> str:
        """Returns the shape of the value that begins with the token ``text``, or with the next token.

        Raises TimeoutError."""
        text = text or self._next()
        if scalar := _SCALARS.get(text[0]):
            return scalar
        if text not in "[{":
            return "0" if text.removeprefix("-").isdecimal() else "0.5"
        if depth == _DEPTH_MAX:
            self._skip()
            return _UNKNOWN_SHAPE
        shape = self._array(depth + 1) if text == "[" else self._object(depth + 1)
        return shape if len(shape) <= _SHAPE_CHARS_MAX else _UNKNOWN_SHAPE

    def _skip(self) -> None:
        """Reads the rest of an array or object, without the recursion that very deep data would need."""
        depth = 1
        while depth:
            text = self._next()
            depth += (text in "[{") - (text in "]}")

    def _array(self, depth: int) -> str:
        return _array_of({self.read(text, depth) for text in iter(self._next, "]") if text != ","})

    def _object(self, depth: int) -> str:
        fields: dict[str, str] = {}
        for key in iter(self._next, "}"):
            if key != ",":
                self._next()  # the colon
                # One key can be written in several ways, of which the shape has one.
                if "\\" in key:
                    key = json.dumps(json.loads(key), ensure_ascii=False)
                fields[key] = self.read(depth=depth)
        if _is_map([key[1:-1] for key in fields], {shape[0] for shape in fields.values()} - {"n"}):
            return f'{{"{_MAP}":{_array_of(set(fields.values()))}}}'
        return "{" + ",".join(f'".{key[1:]}:{fields[key]}' for key in sorted(fields)) + "}"


def _array_of(shapes: set[str]) -> str:
    """Returns the shape of an array. If it would be too large, its items are unknown."""
    small = sum(map(len, shapes)) <= _SHAPE_CHARS_MAX
    return f"[{','.join(sorted(shapes)) if small else _UNKNOWN_SHAPE}]"


def _is_map(keys: Collection[str], kinds: Collection[object]) -> bool:
    """Returns whether the keys of an object are data. ``kinds`` are the types of its values, without null."""
    if len(keys) > _FIELDS_MAX or (len(keys) > _LIKE_FIELDS_MAX and len(kinds) <= 1):
        return True
    return bool(keys) and (all(map(is_data, keys)) or max(map(len, keys)) > _KEY_CHARS_MAX)


def _finished(schema: Schema) -> Schema:
    """Returns GenSON's schema without the marks, in a stable order. The schema of ``null`` alone is kept."""
    return _any_of(map(_finished_option, _options(schema)))


def _finished_option(schema: Schema) -> Schema:
    kind = schema.get("type")
    if kind == "array":
        items = _unless_null(_finished(schema.get("items", {})))
        return {"type": kind, "items": items} if items else {"type": kind}
    fields: dict[str, Schema] = schema.get("properties", {})
    if _UNKNOWN in fields:
        return {}
    if not fields:
        return schema
    finished = {
        name: _finished(field.get("items", {}) if name == _MAP else field) for name, field in sorted(fields.items())
    }
    kinds = {option.get("type") for each in finished.values() for option in _options(each)} - {"null"}
    if _MAP in fields or _is_map([name[1:] for name in fields], kinds):
        return {"type": kind, "additionalProperties": _unless_null(_any_of(finished.values()))}
    properties = {name[1:]: _unless_null(each) for name, each in finished.items()}
    required = [name[1:] for name in schema.get("required", [])]
    return {"type": kind, "properties": properties} | ({"required": required} if required else {})


def _options(schema: Schema) -> Iterator[Schema]:
    """Returns the alternatives of a schema, each with one type, or without any if it says nothing."""
    for each in schema.get("anyOf", [schema]):
        kind = each.get("type")
        yield from ({"type": one} for one in kind) if isinstance(kind, list) else [each]


def _any_of(schemas: Iterable[Schema]) -> Schema:
    """Returns the schema of what satisfies at least one of the schemas."""
    scalars, others = set[str](), dict[str, Schema]()
    for option in (option for schema in schemas for option in _options(schema)):
        if "type" not in option:
            return {}
        if option["type"] in ("array", "object"):
            others[json.dumps(option)] = option
        else:
            scalars.add(option["type"])
    if "number" in scalars:
        scalars.discard("integer")
    types = sorted(scalars)
    found = [{"type": types[0] if len(types) == 1 else types}] if types else []
    found += [others[text] for text in sorted(others)]
    return found[0] if len(found) == 1 else {"anyOf": found} if found else {}


def _unless_null(schema: Schema) -> Schema:
    return {} if schema == {"type": "null"} else schema
