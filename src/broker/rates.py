"""The rates in settings and rules: ``5/minute; 20/hour``."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limits import RateLimitItem


@lru_cache(1_000)  # the rates of a rule are asked for with each insert
def parse_rates(text: str) -> tuple[RateLimitItem, ...]:
    """The rates; all of them hold at the same time. Raises ValueError with a sentence that does not repeat the text."""
    from limits import parse_many  # takes long, and most commands read no rate

    try:
        rates = tuple(parse_many(text))
    except ValueError:
        raise ValueError("give rates such as 5/minute; 20/hour") from None
    if not all(rate.amount for rate in rates):
        raise ValueError("0 would let nobody in; give rates such as 5/minute; 20/hour")
    return rates
