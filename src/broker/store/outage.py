"""What the operator reads in the server's log when a store fails, and which errors the callers get."""

from __future__ import annotations

import logging
import shlex
import sys

from broker.errors import BrokerError, InsufficientStorage, Unavailable

logger = logging.getLogger("broker.store")

FULL_ADVICE = "the disk is full: free some space, and inserts continue by themselves"
NO_DRIVER = f"for PostgreSQL, install its driver: {sys.executable} -m pip install 'psycopg[binary]>=3.3.9,<3.4'"


class Outage:
    """Logs once that a store fails, instead of once for each request, and once that it works again.

    Mutable state: the advice that was logged last. Several threads set it without a lock. The worst consequence is that
    a line is logged twice."""

    def __init__(self, store_name: str) -> None:
        self._store_name = store_name
        self._last_advice = ""

    def report(self, error: Exception, advice: str) -> None:
        """Logs the error, unless the same advice was logged already. ``advice`` is what the operator can do."""
        if advice != self._last_advice:
            self._last_advice = advice
            text = " ".join(str(error).split())
            logger.error("%s: %s: %s; %s", self._store_name, type(error).__name__, text, advice)

    def over(self) -> None:
        """Logs that the store works again, if a failure was logged before. It is called after each transaction that was
        committed."""
        if self._last_advice:
            self._last_advice = ""
            logger.warning("%s: it works again", self._store_name)


def full() -> InsufficientStorage:
    """Returns the error for callers: the write was refused, and nothing of it is stored."""
    return InsufficientStorage("the disk is full; send this again when there is space", retry_after_s=10)


def unreachable() -> Unavailable:
    """Returns the error for callers: the write failed, or its commit was not confirmed."""
    return Unavailable("the store cannot be used for now; send this again in a moment (it may have been stored)")


def fault(error: Exception) -> BrokerError:
    """Returns the error for callers if the store refused a value, or this program has a mistake.

    The store itself works, so no outage is reported, and it would not help to repeat the request."""
    logger.error("a query failed, although the store can be used", exc_info=error)
    return BrokerError("something went wrong in the server; its log says what")


def relocated() -> Unavailable:
    """Returns the error for callers if the log has moved. It does not say where the log is now, because only the
    operator may know that."""
    return Unavailable("the log has moved to another store, and this one is read-only; ask the server there")


def relocated_to(name: str, address: str, arrived: bool) -> str:
    """Returns the message for the operator of the log ``name``, which ``broker move`` has moved to ``address``.
    ``arrived`` says whether it is known that the log is there; if not, the move was interrupted."""
    there = shlex.quote(address)
    if not arrived:
        return (
            f"the log of {name} is on its way to {address}: a `broker move` was interrupted; "
            f"run it again as before, with --to {there}; it checks what was done, and finishes the rest"
        )
    option = "--database" if address.startswith("postgresql:") else "--data"
    return (
        f"the log of {name} has moved to {address}: start with {option} {there}; to take it back, "
        f"`broker move --from {there} --to` another folder or database than this one"
    )
