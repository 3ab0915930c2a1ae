"""Who reads a stream, and what all readers of the same kind have in common."""

from __future__ import annotations

from typing import NamedTuple

from broker.rules.who import AnyUser, InRole, Named, Public, Term
from broker.users import STRANGER_ACTOR, Actor


class Reader(NamedTuple):
    """Who has opened a stream."""

    actor: Actor = STRANGER_ACTOR
    expires_s: int | None = None  # when the token expires, in seconds since 1970; None: there is no token


ANONYMOUS = Reader()


class ReaderClass(NamedTuple):
    """All readers for whom the rules decide the same, as long as no rule looks at their name. Their streams share
    frames."""

    user: bool  # whether they have a token
    roles: frozenset[str]  # those of their roles that some rule about reading names


class ClassTerms(NamedTuple):
    """The part of an alternative of a rule that looks at the class of a reader."""

    user: bool
    roles: frozenset[str]

    @classmethod
    def of(cls, terms: frozenset[Term]) -> ClassTerms:
        roles = frozenset(term.role for term in terms if isinstance(term, InRole))
        about_users = any(isinstance(term, AnyUser | Named) for term in terms)
        return cls(about_users or bool(roles), roles)

    def fit(self, readers: ReaderClass) -> bool:
        return (readers.user or not self.user) and self.roles <= readers.roles


def is_of_class(term: Term) -> bool:
    """Whether the term looks at nothing but the class of a reader."""
    return isinstance(term, Public | AnyUser | InRole)
