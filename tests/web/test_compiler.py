"""TypeScript's compiler accepts ``/types.d.ts``, whatever the names and the data are, and with it, it accepts the right
use of events, and refuses the wrong use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.errors import BadRequest
from broker.names import check_name
from broker.typescript import declarations
from tests.support.frames import frame_of
from tests.support.servers import ServerProcess
from tests.support.typescript import compiled, needs_typescript

pytestmark = needs_typescript

UUIDS = ["01890a5d-ac96-774b-bcce-b302099a8057", "01890a5e-1b44-7c1f-9d3e-5a2f60c4e8b1"]
UNUSUAL = "`${x}\\\"'\u2028\u202e é😀"

EVENTS = [
    # An optional field, and null followed by a string: names that are data, with the newest first.
    ("book/1", '{"title":"Emma","pages":null}'),
    ("book/2", '{"title":"Emma","pages":474,"note":null}'),
    ("book/3", '{"title":"Emma","pages":474,"note":"x"}'),
    ("list", '{"items":[]}'),
    ("carts", json.dumps({UUIDS[0]: {"total": 1}, UUIDS[1]: {"total": 2.5}})),
    ("mixed", '["text",1,{"a":true}]'),
    ("nested", '{"a":{"b":[{"c":{"d":"text"}}]}}'),
    ("todo/milk", '{"done":true}'),
    ("todo/bread", '{"done":false}'),
    ("orders/7", '{"amount":20}'),
    ("orders/total", "20"),
    (UNUSUAL, json.dumps({UNUSUAL + "*/": "text"})),
    ("large", '{"n":123456789012345678901234567890}'),
    ("__proto__", '{"constructor":1,"__proto__":"x"}'),
]

USE = """
declare function latest<K extends keyof BrokerEvents>(name: K): BrokerEvents[K];

const book = latest("book/99");
const pages: number | null = book.pages;
const title: string = book.title;
book.note?.length;
// @ts-expect-error optional
book.note.length;
// @ts-expect-error it may be null
book.pages.toFixed();
// @ts-expect-error
book.author;

const items: unknown[] = latest("list").items;
// @ts-expect-error nothing is known of the items
const texts: string[] = latest("list").items;

latest("carts")["any id"]!.total.toFixed();
// @ts-expect-error
latest("carts")["any id"]!.count;

for (const each of latest("mixed")) {
  if (typeof each === "string") each.length;
  else if (typeof each === "number") each.toFixed();
  else each.a === true;
  // @ts-expect-error
  each.length;
}

latest("nested").a.b[0]!.c.d.length;
// @ts-expect-error
latest("nested").a.b.c;

latest("todo/milk").done === true;
latest("todo/anything else").done === true;
// @ts-expect-error
latest("todo/milk").done === "yes";

latest("orders/total").toFixed();
latest("orders/7").amount.toFixed();
// @ts-expect-error one of the family may be the total
latest("orders/8").amount;
const order = latest("orders/8");
if (typeof order !== "number") order.amount.toFixed();
// @ts-expect-error
latest("orders/total").amount;

latest(NAME)[KEY].length;
// @ts-expect-error
latest(NAME).other;

latest("large").n.toFixed();
// @ts-expect-error
latest("large").n.length;

latest("__proto__").constructor.toFixed();

// @ts-expect-error no event
latest("unknown");
""".replace("NAME", json.dumps(UNUSUAL)).replace("KEY", json.dumps(UNUSUAL + "*/"))


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a server with these events responds."""
    with ServerProcess(tmp_path_factory.mktemp("server")) as server, server.client("ada") as ada:
        for name, data in EVENTS:
            body = f'{{"event":{json.dumps(name)},"data":{data}}}'
            ada.post("/insert", content=body, headers={"Content-Type": "application/json"}).raise_for_status()
        return ada.get("/types.d.ts").text


def test_the_right_use_is_accepted_and_the_wrong_use_is_refused(types: str, tmp_path: Path) -> None:
    (tmp_path / "types.d.ts").write_text(types)
    (tmp_path / "use.ts").write_text(USE)
    assert compiled(tmp_path, "--noUncheckedIndexedAccess", "types.d.ts", "use.ts") == ""
    # Each line that is expected to be refused is refused, or the compiler would have said so; and without the
    # expectations, it refuses these lines only.
    (tmp_path / "use.ts").write_text(re.sub("// @ts-expect-error.*", "// refused", USE))
    refused = {
        int(line) for line in re.findall(r"^use\.ts\((\d+),", compiled(tmp_path, "types.d.ts", "use.ts"), re.MULTILINE)
    }
    assert refused == {number + 1 for number, line in enumerate(USE.splitlines(), 1) if "@ts-expect-error" in line}


def test_the_declarations_merge_with_those_of_a_library(types: str, tmp_path: Path) -> None:
    """As the types of a client will: an event that nobody has inserted yet stays unknown."""
    (tmp_path / "types.d.ts").write_text(types)
    (tmp_path / "library.ts").write_text(
        "declare global { interface BrokerEvents {} }\n"
        "type Data<K extends string> = K extends keyof BrokerEvents ? BrokerEvents[K] : unknown;\n"
        "export declare function event<K extends string>(name: K): Data<K>;\n"
    )
    (tmp_path / "use.ts").write_text(
        'import { event } from "./library.js";\n'
        'event("nested").a;\nevent("todo/else").done;\nconst other: unknown = event("other");\n'
        '// @ts-expect-error\nevent("other").a;\n'
        "declare const name: string;\n// @ts-expect-error\nevent(name).a;\n"
    )
    files = ("types.d.ts", "library.ts", "use.ts")
    assert compiled(tmp_path, "--module", "nodenext", "--moduleResolution", "nodenext", *files) == ""


def test_the_text_is_the_same_whatever_the_seed_of_hashes_is(types: str) -> None:
    program = (
        "import sys, json; from tests.support.frames import frame_of; from broker.typescript import declarations\n"
        "events = json.load(sys.stdin)\n"
        "frames = {name: frame_of(at, name, data.encode()) for at, (name, data) in enumerate(events, 1)}\n"
        "sys.stdout.write(declarations([frames[name] for name in sorted(frames)], lambda: False))\n"
    )
    for seed in ("0", "1", "2"):
        run = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", program], input=json.dumps(EVENTS), text=True, capture_output=True,
            check=True, env=os.environ | {"PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert run.stdout == types


# Whatever the names and the data are


def _permitted(name: str) -> bool:
    try:
        check_name(name)
    except BadRequest:
        return False
    return True


_segments = {
    "few": st.sampled_from(["a", "b", "7", "8", "9", "x", ""]),
    "any": st.sampled_from(
        ["a", "total", "7", "8", "2024-01-01", "", *UUIDS, "`", "${x}", "\\", '"', "__proto__", "toString"]
    )
    | st.text(max_size=4),
}
_keys = st.sampled_from(["a", "b", "7", "", "__proto__", "*/", *UUIDS, "`${", "\ud800", "\u202e"]) | st.text(max_size=3)
_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
)
_data = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4), max_leaves=10
)


def literal(value: object) -> str:
    """A value in TypeScript. Names of properties are computed, because __proto__ has a meaning of its own otherwise."""
    if isinstance(value, dict):
        return "{" + ",".join(f"[{json.dumps(key)}]:{literal(each)}" for key, each in value.items()) + "}"
    return f"[{','.join(map(literal, value))}]" if isinstance(value, list) else json.dumps(value)


@pytest.mark.parametrize("kind", _segments)
def test_any_names_and_data_give_a_file_that_compiles_and_the_data_have_its_types(kind: str, tmp_path: Path) -> None:
    """All cases are compiled at once, because the compiler starts slowly."""
    cases: list[dict[str, object]] = []
    names = st.lists(_segments[kind], min_size=1, max_size=4).map("/".join).filter(_permitted)

    @settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(names, _data.filter(lambda data: data is not None), min_size=1, max_size=20))
    def collect(events: dict[str, object]) -> None:
        cases.append(events)

    collect()
    types, uses = "", []
    for number, events in enumerate(cases):
        frames = {name: frame_of(at, name, json.dumps(data).encode()) for at, (name, data) in enumerate(events.items())}
        text = declarations([frames[name] for name in sorted(frames)], lambda: False)
        types += text.replace("interface BrokerEvents", f"interface Events{number}")
        if "left out" not in text:
            uses += [
                f"({literal(data)}) satisfies Events{number}[{json.dumps(name)}];" for name, data in events.items()
            ]
    (tmp_path / "types.d.ts").write_text(types)
    (tmp_path / "use.ts").write_text("\n".join(uses))
    assert len(uses) > 100  # how many there are is random, mostly about 600
    said = compiled(tmp_path, "types.d.ts", "use.ts")
    assert said == "", [uses[int(line) - 1] for line in re.findall(r"^use\.ts\((\d+),", said, re.MULTILINE)[:1]]


def test_the_largest_file_compiles(tmp_path: Path) -> None:
    """As many patterns and names as there may be."""
    names = [f"{a}{b}/{n}/{c}" for a in "abcde" for b in "abcdefghij" for c in "abcdefghijkl" for n in (1, 2)]
    names += [f"word {'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10 % 10]}{'uvwxyz'[n // 100 % 6]}" for n in range(600)]
    frames = [frame_of(at, name, b'{"a":%d}' % at) for at, name in enumerate(sorted(names), 1)]
    text = declarations(frames, lambda: False)
    assert text.count("[name: `") == 500
    (tmp_path / "types.d.ts").write_text(text)
    assert compiled(tmp_path, "types.d.ts") == ""
