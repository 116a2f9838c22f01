"""`session.data`: every way of changing it is found, and what is no JSON is refused."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule_client.data import DataChanges, SessionData


def data(**stored: Any) -> SessionData:
    async def commit(changes: DataChanges) -> None:
        commits.append(changes)

    commits: list[DataChanges] = []
    made = SessionData(stored, commit)
    COMMITS[id(made)] = commits
    return made


COMMITS: dict[int, list[DataChanges]] = {}


def changed(of: SessionData) -> tuple[dict[str, Any], list[str]]:
    changes = of.changes()
    decoded = {key: json.loads(value) for key, value in changes.set_json.items()}
    return decoded, sorted(changes.delete_keys)


def test_reading_changes_nothing() -> None:
    of = data(a=1, b=[1, {"c": 2}], d={"e": "f"})
    assert of["b"][1]["c"] == 2
    assert of.get("d") == {"e": "f"}
    assert of.get("none", 7) == 7
    assert list(of) == ["a", "b", "d"]
    assert next(iter(of.values())) == 1
    assert dict(of.items()) == of
    assert len(of) == 3
    assert "a" in of
    assert not of.changes()


def test_each_way_of_changing_is_found() -> None:
    def assign(of: Any) -> None:
        of["a"] = 2

    def merge(of: Any) -> None:
        of |= {"a": 2}

    def nested_append(of: Any) -> None:
        of["list"].append(4)

    def nested_in_get(of: Any) -> None:
        of.get("dict")["x"] = 4

    def nested_in_values(of: Any) -> None:
        for value in of.values():
            if isinstance(value, list):
                value.clear()

    def nested_in_items(of: Any) -> None:
        dict(of.items())["dict"]["y"] = [1]

    def nested_in_a_copy(of: Any) -> None:
        dict(of)["list"].append(9)

    def nested_by_unpacking(of: Any) -> None:
        {**of}["list"].append(9)

    def nested_through_or(of: Any) -> None:
        (of | {})["list"].append(9)

    def deeper(of: Any) -> None:
        of["dict"]["in"]["deep"] += 1

    def update(of: Any) -> None:
        of.update(a=5, new=None)

    def setdefault_new(of: Any) -> None:
        of.setdefault("new", []).append(1)

    def setdefault_old(of: Any) -> None:
        of.setdefault("list", []).append(1)

    def replace(of: Any) -> None:
        of.replace({"a": 1, "other": True})

    expected: list[tuple[Any, dict[str, Any], list[str]]] = [
        (assign, {"a": 2}, []),
        (merge, {"a": 2}, []),
        (nested_append, {"list": [3, 4]}, []),
        (nested_in_get, {"dict": {"in": {"deep": 1}, "x": 4}}, []),
        (nested_in_values, {"list": []}, []),
        (nested_in_items, {"dict": {"in": {"deep": 1}, "y": [1]}}, []),
        (nested_in_a_copy, {"list": [3, 9]}, []),
        (nested_by_unpacking, {"list": [3, 9]}, []),
        (nested_through_or, {"list": [3, 9]}, []),
        (deeper, {"dict": {"in": {"deep": 2}}}, []),
        (update, {"a": 5, "new": None}, []),
        (setdefault_new, {"new": [1]}, []),
        (setdefault_old, {"list": [3, 1]}, []),
        (lambda of: of.pop("a"), {}, ["a"]),
        (lambda of: of.pop("none", None), {}, []),
        (lambda of: of.popitem(), {}, ["dict"]),
        (lambda of: of.__delitem__("list"), {}, ["list"]),
        (lambda of: of.clear(), {}, ["a", "dict", "list"]),
        (replace, {"other": True}, ["dict", "list"]),
    ]
    for change, sets, deletes in expected:
        of = data(a=1, list=[3], dict={"in": {"deep": 1}})
        change(of)
        assert changed(of) == (sets, deletes), change


def test_only_what_differs_in_the_end_travels() -> None:
    of = data(a=1, b=[1], c=True)
    of["a"] = 2
    of["a"] = 1
    of["b"].append(2)
    of["b"].pop()
    del of["c"]
    of["c"] = True
    assert not of.changes()


def test_true_and_one_are_not_the_same() -> None:
    of = data(a=1, b=[True])
    of["a"] = True
    of["b"][0] = 1
    assert of.changes().set_json == {"a": b"true", "b": b"[1]"}


async def test_a_flush_commits_once_and_later_changes_are_against_it() -> None:
    of = data(a=1)
    of["a"] = 2
    of["list"] = [1]
    await of.flush()
    await of.flush()
    assert len(COMMITS[id(of)]) == 1
    of["list"].append(2)
    assert changed(of) == ({"list": [1, 2]}, [])
    of.pop("a")
    await of.flush()
    of.pop("list")
    assert changed(of) == ({}, ["list"])


async def test_a_flush_that_fails_keeps_the_changes() -> None:
    async def commit(changes: DataChanges) -> None:
        raise OSError("no line")

    of = SessionData({"a": 1}, commit)
    of["a"] = 2
    with pytest.raises(OSError, match="no line"):
        await of.flush()
    assert changed(of) == ({"a": 2}, [])


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), float("inf"), {1: 2}, {"a": {True: 1}}, (1, 2), {1, 2}, b"x", object(),
        Colour.RED, [[float("-inf")]], 1j,
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused_at_the_assignment_naming_the_key(value: Any) -> None:
    of = data(kept=1)
    for change in (
        lambda: of.__setitem__("wrong", value),
        lambda: of.update(fine=1, wrong=value),
        lambda: of.setdefault("wrong", value),
        lambda: of.__ior__({"wrong": value}),
        lambda: of.replace({"wrong": value}),
    ):
        with pytest.raises(TypeError, match=r"\['wrong'\]"):
            change()
    assert of == {"kept": 1}
    assert not of.changes()


def test_what_becomes_no_json_later_is_refused_at_the_flush() -> None:
    of = data(deep={"list": []})
    of["deep"]["list"].append({1, 2})
    with pytest.raises(TypeError, match=r"session.data\['deep'\]\['list'\]\[0\] is a set"):
        of.changes()


def test_what_is_circular_is_refused() -> None:
    of = data()
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TypeError, match=r"\['c'\].*circular"):
        of["c"] = circle


def test_lone_surrogates_are_refused() -> None:
    of = data()
    of["text"] = "\ud83d"
    with pytest.raises(TypeError, match=r"\['text'\]"):
        of.changes()


@pytest.mark.parametrize(
    "number", [10**400, -(10**399), 10**5000], ids=["401 digits", "a sign and 400", "5,001"]
)
def test_a_number_of_more_than_400_characters_is_refused_by_its_key(number: int) -> None:
    of = data()
    of["large"] = [number]
    with pytest.raises(TypeError, match=r"\['large'\]"):
        of.changes()
    of["large"] = 10**399
    of["text"] = "1" * 500
    assert changed(of) == ({"large": 10**399, "text": "1" * 500}, [])


def test_a_long_number_that_was_stored_before_stays_readable() -> None:
    of = data(old=[10**450])
    assert of["old"] == [10**450]
    assert changed(of) == ({}, [])


@pytest.mark.parametrize("key", [1, None, ("a",)])
def test_a_key_is_a_string(key: Any) -> None:
    with pytest.raises(TypeError, match="keys are strings"):
        data()[key] = 1


@pytest.mark.parametrize("key", ["", "k" * 257])
def test_a_key_has_its_bounds(key: str) -> None:
    with pytest.raises(ValueError, match="1 to 256"):
        data()[key] = 1


def test_subclasses_of_dict_and_list_are_taken_for_what_they_hold() -> None:
    of = data()
    of["ordered"] = OrderedDict(a=1)
    assert changed(of) == ({"ordered": {"a": 1}}, [])


def test_it_behaves_like_a_dict() -> None:
    of = data(a=1, b=[1])
    assert isinstance(of, dict)
    assert of == {"a": 1, "b": [1]}
    assert json.dumps(of) == '{"a": 1, "b": [1]}'
    assert type(of.copy()) is dict
    assert type(copy.deepcopy(of)) is dict
    assert {"z": 0} | of == {"z": 0, "a": 1, "b": [1]}
    with pytest.raises(KeyError):
        of["none"]
    with pytest.raises(KeyError):
        del of["none"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4)


@settings(deadline=None)  # how long it takes decides nothing
@given(before=OBJECTS, after=OBJECTS)
def test_changes_applied_to_what_was_stored_give_what_there_is(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    of = SessionData(json.loads(json.dumps(before)), _no_commit)
    of.replace(after)
    sets, deletes = changed(of)
    result = {key: value for key, value in before.items() if key not in deletes} | sets
    assert json.dumps(result, sort_keys=True) == json.dumps(after, sort_keys=True)


async def _no_commit(changes: DataChanges) -> None:
    raise AssertionError
