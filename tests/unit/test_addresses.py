"""Signed addresses that are not good: each is told why, and how to get one that is."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from capsule_sidecar.model.errors import PermissionDenied
from capsule_sidecar.runtime.addresses import Addresses
from capsule_sidecar.storage.clock import Clock

AGAIN = "; GET .../v1/files/{file_id}, or reading the message again, gives a new one"


def signed(addresses: Addresses, file_id: str) -> tuple[str, str]:
    query = parse_qs(urlsplit(addresses.url(file_id, "a.txt")).query)
    return query["expires"][0], query["signature"][0]


def refused(addresses: Addresses, expires: str, signature: str) -> str:
    with pytest.raises(PermissionDenied) as caught:
        addresses.check("fil_1", expires, signature)
    return caught.value.message


def test_an_address_that_lost_a_part_was_bent_or_is_old_says_which_and_what_helps() -> None:
    addresses = Addresses(b"key", 60.0, "http://here")
    expires, signature = signed(addresses, "fil_1")
    assert 0 < addresses.check("fil_1", expires, signature) <= 61
    assert refused(addresses, "", signature) == f"this address has lost its `expires`{AGAIN}"
    assert refused(addresses, expires, "") == f"this address has lost its `signature`{AGAIN}"
    assert refused(addresses, "", "") == f"this address has lost its `expires`{AGAIN}"
    bent = f"this address is not as this sidecar signed it{AGAIN}"
    _, other = signed(addresses, "fil_2")
    for wrong in ((str(int(expires) + 1), signature), (expires, other), (expires, "\u00e9")):
        assert refused(addresses, *wrong) == bent
    old = Addresses(b"key", -60.0, "http://here")
    assert refused(old, *signed(old, "fil_1")) == f"the time of this address is over{AGAIN}"


class StandingClock(Clock):
    """A clock that stands at a time."""

    def __init__(self, milliseconds: int) -> None:
        super().__init__()
        self._now_ms = milliseconds

    def now_ms(self) -> int:
        return self._now_ms


def test_an_address_is_good_for_all_of_its_time() -> None:
    for now_ms in (1_000_000, 1_000_100, 1_000_999):
        addresses = Addresses(b"key", 1.0, "http://here", StandingClock(now_ms))
        assert 1.0 <= addresses.check("fil_1", *signed(addresses, "fil_1")) <= 2.0
