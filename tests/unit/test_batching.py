"""What waits to be written to one stream is bounded, and no work is ever left out of it."""

from __future__ import annotations

from capsule_sidecar.batching import Outbox


async def test_what_does_not_fit_is_refused() -> None:
    outbox = Outbox(max_bytes=10, batch_bytes=4)
    assert outbox.put(b"12345678")
    assert not outbox.put(b"901")
    assert outbox.put(b"90")


async def test_work_always_fits_and_takes_no_room_from_answers() -> None:
    outbox = Outbox(max_bytes=10, batch_bytes=25)
    for _ in range(3):
        assert outbox.put(b"w" * 20, always=True)
    assert outbox.put(b"answer")
    assert not outbox.put(b"answer")
    assert await outbox.drain() == b"w" * 20
    assert outbox.put(b"more")
    assert [await outbox.drain(), await outbox.drain()] == [b"w" * 20, b"w" * 20]
    assert await outbox.drain() == b"answermore"


async def test_what_comes_after_the_end_is_no_sign_of_a_slow_reader() -> None:
    outbox = Outbox(max_bytes=10, batch_bytes=4)
    outbox.put(b"last")
    outbox.finish()
    assert outbox.put(b"late")
    assert await outbox.drain() == b"last"
    assert await outbox.drain() is None
