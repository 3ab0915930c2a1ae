"""Which names of events have the form of a rule's pattern (``Pattern.form``)."""

from __future__ import annotations

from broker.names import Filter
from broker.rules.rules import ANY, REST, common

NameForm = tuple[str, ...]


def matches(form: NameForm, event: str) -> bool:
    """Whether the name of an event has this form."""
    segments = event.split("/")
    if form[-1] == REST:
        form = form[:-1]
        if len(segments) <= len(form):
            return False
    elif len(segments) != len(form):
        return False
    return all(
        wanted == segment or (wanted == ANY and segment) for wanted, segment in zip(form, segments, strict=False)
    )


def beginning(form: NameForm) -> str:
    """Returns what all names of this form begin with."""
    for at, segment in enumerate(form):
        if segment in (ANY, REST):
            return "".join(f"{literal}/" for literal in form[:at])
    return "/".join(form)


def can_match(filter: Filter, form: NameForm) -> bool:
    """Whether some name that the filter matches may also match the pattern with this form."""
    return any(common(tuple(name.split("/")), form) for name in filter.names) or any(
        _may_begin(prefix.split("/"), form) for prefix in filter.prefixes
    )


def _may_begin(prefix: list[str], form: NameForm) -> bool:
    """Whether a name that begins with the prefix, which ends in the middle of its last segment, may match the form."""
    *whole, last = prefix
    for at, segment in enumerate(whole):
        if at < len(form) and form[at] == REST:
            return True
        if at >= len(form) or form[at] not in (ANY, segment):
            return False
    at = len(whole)
    return at < len(form) and (form[at] in (ANY, REST) or form[at].startswith(last))
