"""Decides how long the hub waits before it writes to its subscribers (docs/decisions/0005).

This is pure arithmetic: there is no input or output, and the time is passed as an argument."""

from __future__ import annotations

_PAUSE_MAX_S = 0.01


class Pace:
    """A record that is published while nothing else happens is written at once. Under load, the hub waits before it
    writes. The records that are published while it waits are joined into one write, which makes each delivery cheaper.
    There are two reasons to wait:

    * A fan-out of several frames is a sign of load. The next fan-out begins at the earliest after a pause that is as
      long as that fan-out took, so that half of the event loop's time is left for inserts and new connections.
    * While other writes are being committed, a fan-out waits for the records that they will publish, but not longer
      than the last fan-out took.

    Neither the pause nor the wait is longer than ``_PAUSE_MAX_S``.

    Mutable state: how long the last fan-out took (``_fan_out_s``), and when the pause ends (``_paused_until``). Times
    are in seconds, all of the same clock."""

    def __init__(self) -> None:
        self._fan_out_s = 0.0
        self._paused_until = 0.0

    def delay_s(self, now: float, *, committing: bool) -> float:
        """Returns how many seconds the hub must wait before the next fan-out; 0 if it need not wait. ``committing``
        says whether other writes are being committed."""
        return max(self._paused_until - now, self._fan_out_s if committing else 0.0)

    def written(self, began: float, ended: float, *, frames: int) -> None:
        """Records that a fan-out is over, which wrote this number of frames between ``began`` and ``ended``."""
        self._fan_out_s = min(ended - began, _PAUSE_MAX_S)
        if frames > 1:
            self._paused_until = ended + self._fan_out_s
