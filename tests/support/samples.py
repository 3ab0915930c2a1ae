"""JSON that clients tend to get wrong, with what must arrive, to the character; and names that are refused."""

from __future__ import annotations

import httpx

_LONG = "".join(chr(0x21 + index % 0x5D) for index in range(1_000_000)).replace('"', "'").replace("\\", "/")

# name: (as sent, as it arrives); only white space outside of strings is taken out.
SAMPLES: dict[str, tuple[str, str]] = {
    "pretty-printed": ('{\n  "b": [1,\r\n\t2],\n\n  "a" : "x  y"\n}', '{"b":[1,2],"a":"x  y"}'),
    "escaped line breaks": (r'"one\ntwo\r\nthree\u000afour"', r'"one\ntwo\r\nthree\u000afour"'),
    "line separators": ('"\u2028\u2029\u0085\x7f"', '"\u2028\u2029\u0085\x7f"'),
    "escaped separators": (r'"\u2028\u2029\u0085"', r'"\u2028\u2029\u0085"'),
    "emoji": (
        '"\U0001f469\u200d\U0001f469\u200d\U0001f467 \\ud83d\\ude00"',
        '"\U0001f469\u200d\U0001f469\u200d\U0001f467 \\ud83d\\ude00"',
    ),
    "half a pair": (r'"\ud83d"', r'"\ud83d"'),
    "byte order mark": ('"\ufeff\ufffd"', '"\ufeff\ufffd"'),
    "long string": (f'"{_LONG}"', f'"{_LONG}"'),
    "long emoji": ('"' + "\U0001f600" * 250_000 + '"', '"' + "\U0001f600" * 250_000 + '"'),
    "30 digits": ("123456789012345678901234567890", "123456789012345678901234567890"),
    "30 decimals": (
        '[-0.0, 1e400, 1E-7, 0.100000000000000000000000000001, {"n": 1.0}]',
        '[-0.0,1e400,1E-7,0.100000000000000000000000000001,{"n":1.0}]',
    ),
    "keys": ('{"b":1,"a":2,"b":3,"":4}', '{"b":1,"a":2,"b":3,"":4}'),
    "fields of a stream": ('"data: x\\n\\nid: 1\\n\\nevent: y"', '"data: x\\n\\nid: 1\\n\\nevent: y"'),
    "colon and spaces": ('"  : "', '"  : "'),
    "nothing": ("null", "null"),
}

# name: what the sentence that refuses it says, among other things.
BAD_NAMES = {
    "": "empty",
    "a\rb": "control character",
    "a\nb": "control character",
    "a\x00b": "control character",
    "a\x7f": "control character",
    "\x85": "control character",
    "a\x9fb": "control character",
    "a\ud800": "surrogate",
    "x" * 256: "255 bytes",
    "é" * 128: "255 bytes",
    "$": "reserved",
    "$ready": "reserved",
    "*": "filters",
    "a*b": "filters",
    "error": "handler",
    "open": "handler",
    ".": "path segment",
    "..": "path segment",
    "a/./b": "path segment",
    "a/..": "path segment",
    "../a": "path segment",
}


def insert_all(client: httpx.Client, event: str) -> list[str]:
    """Inserts every sample; returns what must arrive."""
    for name, (sent, _) in SAMPLES.items():
        body = f'{{"event":"{event}","data":{sent}}}'.encode()
        answer = client.post("/insert", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 201, (name, answer.text[:300])
    return [arrives for _, arrives in SAMPLES.values()]
