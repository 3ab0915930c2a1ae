"""What the operator is told when the store fails, and what callers may know of it."""

from __future__ import annotations

import logging

from broker.errors import InsufficientStorage, Unavailable

logger = logging.getLogger("broker.store")

FULL_ADVICE = "the disk is full: free some space, and inserts go on by themselves"


class Outage:
    """What fails is told once in the log, not for each request; and when it is over.

    Mutable state: what was told last. Set by several threads; at worst a line is there twice."""

    def __init__(self, name: str) -> None:
        self._name = name  # of the store
        self._told = ""

    def tell(self, error: Exception, advice: str) -> None:
        text = f"{type(error).__name__}: {error}".strip()
        if text != self._told:
            self._told = text
            logger.error("%s: %s; %s", self._name, text, advice)

    def over(self) -> None:
        """A transaction went through."""
        if self._told:
            self._told = ""
            logger.warning("%s: it works again", self._name)


def full() -> InsufficientStorage:
    return InsufficientStorage("the disk is full; send this again when there is space", retry_after_s=10)


def away() -> Unavailable:
    return Unavailable("the store cannot be used for now; send this again in a moment (it may have been stored)")
