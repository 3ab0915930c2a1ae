"""How often the hub writes to its subscribers: arithmetic alone, time is an argument (docs/decisions/0005)."""

from __future__ import annotations

_PAUSE_MAX_S = 0.01


class Pace:
    """A record that is published while nothing else happens is written at once. Under load, writing pauses.

    A fan-out of several frames is the sign of load. After one, the next begins at the earliest after a pause as long as
    that fan-out took, so that half of the event loop's time is left to inserts and new connections. And while other
    writes are being committed, a fan-out waits for what they will publish, for the same time at most. What is published
    meanwhile is joined, which makes each delivery cheaper. ``_PAUSE_MAX_S`` bounds either.

    Mutable state: how long the last fan-out took, and until when writing pauses. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._fan_out_s = 0.0
        self._paused_until = 0.0

    def delay_s(self, now: float, *, committing: bool) -> float:
        """How long to wait before the next fan-out; 0: none. ``committing``: other writes are being committed."""
        return max(self._paused_until - now, self._fan_out_s if committing else 0.0)

    def written(self, began: float, ended: float, *, frames: int) -> None:
        """A fan-out of so many frames is over."""
        self._fan_out_s = min(ended - began, _PAUSE_MAX_S)
        if frames > 1:
            self._paused_until = ended + self._fan_out_s
