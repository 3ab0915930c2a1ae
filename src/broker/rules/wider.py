"""What becomes wider when other rules take effect: who may do something then that he may not do now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from limits import RateLimitItem

from broker.rates import parse_rates
from broker.rules.rules import OPERATIONS, REST, Match, Operation, Rules, common, is_capture
from broker.rules.who import ME, AnyUser, If, InRole, Named, Public, Term, Who

# What stands for a segment that may be any text. It occurs in no name, so no literal matches it.
_FRESH = "\x00"


@dataclass(frozen=True, slots=True)
class Widening:
    """For the events that match ``names``, something is permitted that was not permitted before."""

    names: str
    operation: Operation
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.names}: {self.operation} by {self.after} (before: {self.before})"


def widenings(old: Rules, new: Rules) -> list[Widening]:
    """Returns all that becomes wider. If it is empty, nobody may do anything by ``new`` that he may not do by ``old``,
    whatever events there are.

    A right depends only on the rule that decides, so names are compared which stand for all names that the same two
    rules decide on. Where the name that two patterns have in common is as general as possible, another rule decides on
    it only if that rule decides on all names that they have in common."""
    found: dict[tuple[str, Operation], Widening] = {}
    for name, shown in _samples(old, new):
        after = new.find(name)
        if after is None:
            continue
        before = old.find(name)
        for operation in OPERATIONS:
            was, will = _described(before, operation), _described(after, operation)
            if (shown, operation) not in found and _wider(before, after, operation):
                found[shown, operation] = Widening(shown, operation, was, will)
    return list(found.values())


def _samples(old: Rules, new: Rules) -> Iterator[tuple[str, str]]:
    """Yields the names to compare, and how a person writes them."""
    patterns = [rule.pattern.form for rules in (new, old) for rule in rules.rules]
    depth = max(map(len, patterns), default=0) + 1
    seen: set[tuple[str, ...]] = set()
    for rule in new.rules:
        for other in [rule.pattern.form, *(each.pattern.form for each in old.rules)]:
            form = common(rule.pattern.form, other)
            for segments in _without_rest(form, depth):
                if segments not in seen:
                    seen.add(segments)
                    # With the names of its captures, of which some may be in what follows.
                    yield _sample(segments), str(rule.pattern) if form == rule.pattern.form else "/".join(form)


def _without_rest(form: tuple[str, ...], depth: int) -> Iterator[tuple[str, ...]]:
    if form[-1:] != (REST,):
        if form:
            yield form
        return
    for length in range(1, depth - len(form) + 3):
        yield (*form[:-1], *["{_}"] * length)


def _sample(segments: tuple[str, ...]) -> str:
    return "/".join(f"{_FRESH}{at}" if is_capture(segment) else segment for at, segment in enumerate(segments))


def _described(match: Match | None, operation: Operation) -> str:
    if match is None:
        return "nobody"
    if operation == "cancel" and operation not in match.rule.rights:
        return "who inserted it"
    rule = match.rule
    limits = [f"max_bytes {rule.max_bytes}"] if rule.max_bytes is not None else []
    limits += [rule.rate] if rule.rate else []
    limits += ["once"] if rule.once else []
    shown = limits if operation in ("insert", "remove") else []
    shown = [*shown, "with the author"] if operation == "read" and rule.author_public else shown
    return ", ".join([str(rule.who(operation)), *shown])


def _wider(before: Match | None, after: Match, operation: Operation) -> bool:
    new = _concrete(after, operation)
    old = _concrete(before, operation) if before is not None else ()
    if any(not any(_implies(alternative, each) for each in old) for alternative in new):
        return True
    if before is None or not new:
        return False
    was, will = before.rule, after.rule
    if operation == "read":
        return will.author_public and not was.author_public
    if operation not in ("insert", "remove"):
        return False
    return (
        (was.max_bytes is not None and (will.max_bytes is None or will.max_bytes > was.max_bytes))
        or (was.once and not will.once)
        or (bool(was.rate) and not _within(will.rate, was.rate))
    )


_OWN = If(("own",))  # whoever has inserted the record: implied by nothing else


def _concrete(match: Match, operation: Operation) -> tuple[frozenset[Term], ...]:
    """Returns the alternatives with the captured segments in place of the captures."""
    if operation == "cancel" and operation not in match.rule.rights:
        return (frozenset({_OWN, AnyUser()}),)
    who: Who = match.rule.who(operation)
    return tuple(frozenset(_put(term, match) for term in terms) for terms in who.alternatives)


def _put(term: Term, match: Match) -> Term:
    if isinstance(term, Named):
        return Named(match.captures[term.capture])
    if isinstance(term, If):
        known = {f"{{{name}}}": segment for name, segment in match.captures.items()}
        return If(tuple(known.get(segment, segment) for segment in term.segments))
    return term


def _implies(new: frozenset[Term], old: frozenset[Term]) -> bool:
    """Whether everybody for whom all the new terms hold is somebody for whom all the old ones hold."""
    me = next((term.capture for term in new if isinstance(term, Named)), None)
    known = {_about(term, me) for term in new} | {Public()}
    if any(isinstance(term, Named | InRole | AnyUser) or (isinstance(term, If) and term.about_me) for term in new):
        known.add(AnyUser())
    return {_about(term, me) for term in old} <= known


def _about(term: Term, me: str | None) -> Term:
    """Returns the condition with the name of the person, if it is known."""
    if isinstance(term, If) and me is not None:
        return If(tuple(me if segment == ME else segment for segment in term.segments))
    return term


def _within(new: str, old: str) -> bool:
    """Whether the new rate lets nobody insert more than the old one, as far as that is easy to see."""
    return all(any(_slower(each, other) for each in (parse_rates(new) if new else ())) for other in parse_rates(old))


def _slower(one: RateLimitItem, other: RateLimitItem) -> bool:
    return one.amount <= other.amount and one.get_expiry() == other.get_expiry()
