"""Rates of attempts: ``5/minute; 20/hour``."""

from __future__ import annotations

from limits import RateLimitItem, parse_many


def parse_rates(text: str) -> list[RateLimitItem]:
    """Raises ValueError with a sentence, without the text."""
    try:
        rates = parse_many(text)
    except ValueError:
        raise ValueError("give rates such as 5/minute; 20/hour") from None
    if not all(rate.amount for rate in rates):
        raise ValueError("0 would let nobody in; give rates such as 5/minute; 20/hour")
    return rates
