"""Frames as the relay makes them, for the tests of what holds and encodes them."""

from __future__ import annotations

from uuid import UUID

import msgspec

from broker.live.frames import Frame, make_frame
from broker.records import Record

EPOCH = "0a1b2c3d"
UUID_OF_ALL = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
PUBLISHED_US = 1_700_000_000_500_000


def frame_of(
    position: int, event: str = "e", data: bytes = b"1", *, named: bytes | None = None, **more: object
) -> Frame:
    """The frame of a record. ``named`` replaces the bytes of its named form, for tests that count bytes."""
    record = Record(
        UUID_OF_ALL, event, data, "ada", None, PUBLISHED_US, False, PUBLISHED_US,
        position=position, published_us=PUBLISHED_US,
    )  # fmt: skip
    frame = make_frame(msgspec.structs.replace(record, **more), f"{EPOCH}-".encode())
    return frame if named is None else msgspec.structs.replace(frame, named=named)
