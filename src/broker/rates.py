"""The rates in settings: ``5/minute; 20/hour``."""

from __future__ import annotations

from limits import RateLimitItem, parse_many


def parse_rates(text: str) -> list[RateLimitItem]:
    """The rates; all of them hold at the same time. Raises ValueError with a sentence that does not repeat the text."""
    try:
        rates = parse_many(text)
    except ValueError:
        raise ValueError("give rates such as 5/minute; 20/hour") from None
    if not all(rate.amount for rate in rates):
        raise ValueError("0 would let nobody in; give rates such as 5/minute; 20/hour")
    return rates
