"""When the hub may write again (docs/decisions/0005)."""

from __future__ import annotations

import pytest

from broker.live.pace import Pace

NOW = 1_000.0


def test_at_first_nothing_waits() -> None:
    assert Pace().delay_s(NOW, committing=False) == 0
    assert Pace().delay_s(NOW, committing=True) == 0


@pytest.mark.parametrize("frames", [2, 100])
def test_after_a_fan_out_of_several_frames_there_is_a_pause_as_long_as_it_took(frames: int) -> None:
    pace = Pace()
    pace.written(NOW, NOW + 0.004, frames=frames)
    assert pace.delay_s(NOW + 0.004, committing=False) == pytest.approx(0.004)
    assert pace.delay_s(NOW + 0.006, committing=False) == pytest.approx(0.002)
    assert pace.delay_s(NOW + 0.008, committing=False) <= 0


def test_after_a_fan_out_of_one_frame_there_is_none() -> None:
    pace = Pace()
    pace.written(NOW, NOW + 0.004, frames=1)
    assert pace.delay_s(NOW + 0.004, committing=False) <= 0


def test_while_writes_are_committed_a_fan_out_waits_as_long_as_the_last_one_took() -> None:
    pace = Pace()
    pace.written(NOW, NOW + 0.004, frames=1)
    assert pace.delay_s(NOW + 1, committing=True) == pytest.approx(0.004)


def test_no_pause_is_longer_than_ten_milliseconds() -> None:
    pace = Pace()
    pace.written(NOW, NOW + 60, frames=100)
    assert pace.delay_s(NOW + 60, committing=True) == pytest.approx(0.01)
