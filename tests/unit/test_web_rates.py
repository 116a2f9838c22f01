"""How often, and how many at once."""

from __future__ import annotations

import pytest

from capsule_sidecar.model.errors import RateLimited
from capsule_sidecar.runtime import rates
from capsule_sidecar.runtime.rates import Rate, Shares


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("capsule_sidecar.runtime.rates.time.monotonic", lambda: self.now)


def test_a_minutes_worth_is_taken_at_once_and_then_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    rate = Rate("guests", 6)
    for _ in range(6):
        rate.take("a")
    with pytest.raises(RateLimited) as caught:
        rate.take("a")
    assert caught.value.retry_after == 10
    rate.take("b")  # another key has its own
    clock.now += 10
    rate.take("a")
    with pytest.raises(RateLimited):
        rate.take("a")
    clock.now += 3600
    for _ in range(6):
        rate.take("a")
    with pytest.raises(RateLimited):
        rate.take("a")


def test_asking_while_none_is_left_makes_nobody_wait_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    rate = Rate("guests", 1)
    rate.take("a")
    for _ in range(59):
        clock.now += 1
        with pytest.raises(RateLimited):
            rate.take("a")
    clock.now += 1.001
    rate.take("a")


def test_as_many_keys_are_kept_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_KEPT", 10)
    rate = Rate("guests", 1)
    for key in range(1000):
        rate.take(key)
    assert len(rate._left) == 10


def test_a_share_is_given_back_however_it_is_left() -> None:
    shares = Shares("streams", 2)
    with shares.one("a"), shares.one("a"), shares.one("b"):
        assert shares.total == 3
        with pytest.raises(RateLimited), shares.one("a"):
            pass
    with pytest.raises(KeyError), shares.one("a"):
        raise KeyError
    assert shares.total == 0
    assert not shares._counts
