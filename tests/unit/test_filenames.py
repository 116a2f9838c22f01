"""Names and media types of files, from whoever sends them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_sidecar.model.filenames import clean_media_type, clean_name
from capsule_sidecar.runtime.addresses import Addresses


@given(st.text(max_size=400))
def test_a_name_is_short_visible_and_no_path(text: str) -> None:
    name = clean_name(text)
    assert 0 < len(name.encode()) <= 255
    assert not set(name) & set("/\\\0\r\n\u202e\u2066")
    assert name not in (".", "..")
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)
    assert clean_name(name) == name or unicodedata.normalize("NFC", name) != name


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [("x" * 300 + ".pdf", "x" * 251 + ".pdf"), ("a." + "b" * 300, "a." + "b" * 253), ("/", "file")],
)
def test_a_name_that_is_too_long_keeps_its_extension(given_name: str, kept: str) -> None:
    assert clean_name(given_name) == kept


@given(st.text(max_size=300))
def test_a_media_type_is_one(text: str) -> None:
    kind, _, subtype = clean_media_type(text).partition("/")
    assert kind
    assert subtype
    assert clean_media_type(text).isascii()
    assert not set(clean_media_type(text)) & set("\r\n;, ")


@given(st.text(min_size=1, max_size=255).filter(lambda name: name.isprintable()))
def test_an_address_stays_short_whatever_the_name(name: str) -> None:
    addresses = Addresses(b"k" * 32, 60.0, "http://here")
    url = addresses.url("fil_x", name)
    assert len(url) < 250
    assert url.isascii()
