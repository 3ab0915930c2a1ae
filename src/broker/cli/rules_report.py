"""What rules mean for people, in lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.rules.file import RulesFile
from broker.rules.rules import OPERATIONS, Operation, Rule, Rules, common
from broker.rules.who import AnyUser, If, InRole, Named, Public, Term


def abilities(rules: Rules) -> Iterator[str]:
    """Yields what a stranger, a user and each role can do; of a role, what it can do beyond what every
    user can. What only some of them can do is marked with ``~``: the users whose name is in the name of the event, or
    for whom a condition holds."""
    kinds: list[tuple[str, frozenset[Term]]] = [
        ("a stranger", frozenset({Public()})),
        ("a user", frozenset({Public(), AnyUser()})),
    ]
    of_roles: list[frozenset[Term]] = [frozenset({Public(), AnyUser(), InRole(role)}) for role in sorted(rules.roles)]
    kinds += zip([f"@{role}" for role in sorted(rules.roles)], of_roles, strict=True)
    width = max(len(name) for name, _ in kinds)
    some = False
    below: set[tuple[Operation, str]] = set()
    for name, holds in kinds:
        can = {
            (operation, shown) for rule in rules.rules for operation in OPERATIONS
            if (shown := _shown(rule, operation, holds, name != "a stranger"))
        }  # fmt: skip
        new = can - below
        if not name.startswith("@"):
            below |= can
        if not new:
            yield f"{name:<{width}}  {'nothing' if name == 'a stranger' else 'nothing more than the above'}"
        for operation in OPERATIONS:
            patterns = sorted(shown for each, shown in new if each == operation)
            if patterns:
                yield f"{name:<{width}}  {operation:<6}  {', '.join(patterns)}"
                some = some or any(pattern.startswith("~") for pattern in patterns)
    if some:
        yield "~: only who is in the name of the event, has inserted the record, or fulfils the rule's condition"
    if any(AnyUser() in who.terms for rule in rules.rules for who in rule.rights.values()):
        yield "a user: as long as sign-up is open, whoever asks for an account (the setting signup)"


def _shown(rule: Rule, operation: Operation, holds: frozenset[Term], is_user: bool) -> str:
    """Returns the rule's pattern, with a mark if only some people of this kind can do it, or "" if nobody of them
    can."""
    found = ""
    for terms in rule.who(operation).alternatives:
        personal = {term for term in terms if isinstance(term, Named | If)}
        named = any(isinstance(term, Named) or (isinstance(term, If) and term.about_me) for term in personal)
        if not terms - personal <= holds or (named and not is_user):
            continue
        if not personal:
            return str(rule.pattern)
        found = f"~{rule.pattern}"
    if operation == "cancel" and "cancel" not in rule.rights and is_user:
        return f"~{rule.pattern}"
    return found


def doubtful(file: RulesFile) -> Iterator[str]:
    """Yields what is permitted, and is more likely to be a slip of the pen."""
    rules = file.rules
    for rule in rules.rules:
        terms = {term for who in rule.rights.values() for term in who.terms if isinstance(term, If)}
        for term in sorted(terms, key=str):
            if not any(common(term.segments, each.pattern.form) for each in rules.rules):
                yield (
                    f'line {rule.line}: "{term}": no rule covers this event, so only administrators can insert it; is '
                    "the name right?"
                )
    for each in file.expectations:
        if rules.find(each.event) is None:
            yield f'line {each.line}: "{each.event}": no rule covers this event, so nobody can; is the name right?'


def uncovered(rules: Rules, names: Iterable[str]) -> list[str]:
    """Returns the names that no rule covers."""
    return [name for name in names if rules.find(name) is None]
