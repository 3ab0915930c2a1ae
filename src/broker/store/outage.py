"""What the operator is told when the store fails, or has moved, and what callers may know of it."""

from __future__ import annotations

import logging
import shlex
import sys

from broker.errors import BrokerError, InsufficientStorage, Unavailable

logger = logging.getLogger("broker.store")

FULL_ADVICE = "the disk is full: free some space, and inserts go on by themselves"
NO_DRIVER = f"for PostgreSQL, install its driver: {sys.executable} -m pip install 'psycopg[binary]>=3.3.9,<3.4'"


class Outage:
    """What fails is told once in the log, not for each request; and when it is over.

    Mutable state: the advice that was given last. Set by several threads; at worst a line is there twice."""

    def __init__(self, name: str) -> None:
        self._name = name  # of the store
        self._told = ""

    def tell(self, error: Exception, advice: str) -> None:
        if advice != self._told:
            self._told = advice
            text = " ".join(str(error).split())
            logger.error("%s: %s: %s; %s", self._name, type(error).__name__, text, advice)

    def over(self) -> None:
        """A transaction went through."""
        if self._told:
            self._told = ""
            logger.warning("%s: it works again", self._name)


def full() -> InsufficientStorage:
    return InsufficientStorage("the disk is full; send this again when there is space", retry_after_s=10)


def away() -> Unavailable:
    return Unavailable("the store cannot be used for now; send this again in a moment (it may have been stored)")


def fault(error: Exception) -> BrokerError:
    """A value that the store cannot take, or a mistake in this program: the store itself is well, so nobody is told of
    an outage, and to ask again would not help."""
    logger.error("a query failed, and not for want of the store", exc_info=error)
    return BrokerError("something went wrong in the server; its log says what")


def moved() -> Unavailable:
    """Not where to: that is the operator's to know."""
    return Unavailable("the log has moved to another store, and this one takes no more writes; ask the server there")


def moved_to(name: str, address: str, arrived: bool) -> str:
    """What the operator of the log ``name`` is told that ``broker move`` has moved to ``address``."""
    there = shlex.quote(address)
    if not arrived:
        return (
            f"the log of {name} is on its way to {address}: a `broker move` was interrupted; "
            f"type it again as before, with --to {there}, and it finds out how far it came, and finishes"
        )
    option = "--database" if address.startswith("postgresql:") else "--data"
    return (
        f"the log of {name} has moved to {address}: start with {option} {there}; to take it back, "
        f"`broker copy --from {there} --to` another folder or database than this one"
    )
