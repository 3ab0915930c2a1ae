"""Random rules, the names that they are about, and the people for whom they decide; and rules for real servers."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import strategies as st

from broker.cli.operator import operator
from broker.names import RULES_EVENT
from broker.rules.rules import OPERATIONS, Pattern
from broker.rules.who import STRANGER, Person
from tests.support.servers import ServerProcess

# The second permits more than the first.
NARROW = '[[event]]\nname = "board/*"\nread = "user"\n'
WIDE = '[[event]]\nname = "board/*"\nread = "public"\n'

SEGMENTS = ["a", "b", "{x}", "{y}", "{_}"]
WHO = ["nobody", "public", "user", "{x}", "{y}", "@r", "@s", "if m/{me}", "if m/{x}", "user and if m/a", "{x} and @r"]
NAMES = ["/".join(each) for length in (1, 2, 3) for each in product(["a", "b", "ada", "bob"], repeat=length)]
PERSONS = [
    STRANGER, *(Person(name, frozenset(roles)) for name in ("ada", "bob", "a") for roles in ((), ("r",), ("r", "s")))
]  # fmt: skip


@st.composite
def random_rules(draw: st.DrawFn) -> str:
    text = 'roles = ["r", "s"]\n[[event]]\nname = "uses/roles"\nread = ["@r", "@s"]\n'
    forms: set[tuple[str, ...]] = set()
    for _ in range(draw(st.integers(0, 4))):
        segments = draw(st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3))
        segments += ["*"] * draw(st.integers(0, 1))
        captures = [segment for segment in segments if segment in ("{x}", "{y}")]
        if len(set(captures)) < len(captures) or (form := Pattern(tuple(segments)).form) in forms:
            continue
        forms.add(form)
        text += f'[[event]]\nname = "{"/".join(segments)}"\nopen = true\nmax_bytes = 10\nrate = "5/minute"\n'
        usable = [who for who in WHO if all(x in captures for x in ("{x}", "{y}") if x in who)]
        lines = {
            operation: draw(st.lists(st.sampled_from(usable[1:]), min_size=1, max_size=2) | st.just(["nobody"]))
            for operation in draw(st.lists(st.sampled_from(OPERATIONS), unique=True))
        }
        for unused in set(captures) - {x for who in lines.values() for each in who for x in captures if x in each}:
            lines["read"] = [*[who for who in lines.get("read", []) if who != "nobody"], unused]
        for operation, who in lines.items():
            if operation in ("cancel", "log"):
                who = [f"user and {each}" if each == "if m/{x}" else each for each in who if each != "public"] or [
                    "user"
                ]
            text += f"{operation} = {who!r}\n".replace("'", '"')
    return text


def operate(server: ServerProcess, method: str, path: str, body: object = None) -> Any:
    """Asks a server as its operator: over its socket, or, if it is on PostgreSQL, by a node in this process. Returns
    the JSON of the response."""
    options = server.options
    database = options[options.index("--database") + 1] if "--database" in options else None
    with operator(None if database else server.data, database, None) as ask:
        return ask.json(method, path, body)


def apply_rules(server: ServerProcess, toml: str) -> None:
    operate(server, "POST", "/insert", {"event": RULES_EVENT, "data": {"format": 1, "toml": toml}})


def give_roles(server: ServerProcess, username: str, *roles: str) -> None:
    (user,) = operate(server, "GET", f"/users?name={username}")
    operate(server, "POST", f"/users/{user['id']}/roles", {"roles": roles})
