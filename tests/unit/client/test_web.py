"""Data and endpoint handlers in the client: declarations, arguments, answers."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import capsule_client as capsule
from capsule_client import _web, _web_form
from capsule_client._web_arguments import BadRequest, convert, known

if TYPE_CHECKING:
    from nowhere import Report  # type: ignore[import-not-found]  # that is the point


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ("/dup/{a}", "/dup/{b}", True), ("/{a}/x/{b}", "/{b}/x/{a}", True),
        ("/dup/{a}", "/dup/{a}", True), ("/dup/{a}", "/dup/a", False),
        ("/dup/{a}", "/dup/{a}/{b}", False),
    ],
)  # fmt: skip
def test_paths_that_differ_in_their_names_alone_are_declared_once(
    first: str, second: str, taken: bool
) -> None:
    app = capsule.App("support")

    async def handle(ctx: capsule.RequestContext, **names: str) -> None: ...

    app.endpoint("GET", first)(handle)
    app.endpoint("POST", second)(handle)
    if taken:
        with pytest.raises(ValueError, match=r"has a handler of GET .* already"):
            app.endpoint("GET", second)(handle)
    else:
        app.endpoint("GET", second)(handle)


def test_a_handler_can_catch_a_body_that_is_no_json_as_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^body: is not JSON"):
        capsule.Request("POST", "/", {}, {}, b"{bad").json()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


@dataclasses.dataclass
class Inner:
    when: datetime
    colour: Colour


@dataclasses.dataclass
class Outer:
    inner: Inner
    many: list[Inner]


class Model(pydantic.BaseModel):
    id: UUID
    when: datetime
    colour: Colour
    inner: dict[str, Decimal]


ID = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def declared(function: Any, what: str = "data", taken: Sequence[str] = ()) -> _web.Declared:
    return _web.declare(function, what, authenticated=False, raw=what == "endpoint", taken=taken)


# -- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (str, "", ""), (str, " a ", " a "), (Any, "x", "x"),
        (int, "-7", -7), (int, "+7", 7), (int, "9007199254740993", 9007199254740993),
        (float, "1", 1.0), (float, ".5", 0.5), (float, "1e3", 1000.0), (float, "5.", 5.0),
        (Decimal, "0.10", Decimal("0.10")), (bool, "TRUE", True), (bool, "off", False),
        (UUID, str(ID).upper(), ID), (UUID, ID.hex, ID),
        (datetime, "2026-01-31T12:00:00Z", NOON), (datetime, "2026-01-31T13:00:00+01:00", NOON),
        (date, "2026-01-31", date(2026, 1, 31)),
        (Colour, "red", Colour.RED), (Size, "1", Size.SMALL),
        (Literal["a", 1], "1", 1), (Literal[True, "x"], "true", True),
        (int | None, "7", 7), (str | int, "7", 7), (str | int, "x", "x"),
    ],
)  # fmt: skip
def test_a_text_becomes_what_the_annotation_says(hint: Any, text: str, value: Any) -> None:
    made = convert("a", [text], hint)
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("hint", "texts"),
    [
        (int, ["", " 7", "7 ", "1_000", "٣", "1.0", "1e3", "0x1", "true", "9" * 5_000, "七"]),
        (float, ["", "nan", "inf", "-Infinity", "1e400", "1_0.0", "1e", "٣.٣", " 1"]),
        (Decimal, ["", "NaN", "sNaN", "Infinity", "1_0", "1e99999999"]),
        (bool, ["", "2", "ja", "None"]),
        (UUID, ["", "x", "{12345678-1234-5678-1234-567812345678}", "urn:uuid:" + ID.hex, "1" * 31]),
        (datetime, ["", "now", "31.1.2026", "2026-13-01T00:00:00"]),
        (date, ["", "2026-02-30", "2026-01-31T12:00:00"]),
        (Colour, ["", "RED", "Colour.RED"]),
        (Literal["a", "b"], ["", "c", "A"]),
        (int | None, ["", "None", "null"]),
        (list[int], ["x"]),
    ],
)
def test_a_text_that_does_not_fit_is_refused_by_name(hint: Any, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(BadRequest) as refused:
            convert("a", [text], hint)
        assert refused.value.field == "a", text


@given(st.text())
def test_whatever_is_given_either_fits_or_is_refused(text: str) -> None:
    for hint in (int, float, Decimal, bool, UUID, datetime, date, Colour, int | date | None):
        assert known(hint)
        try:
            value = convert("a", [text], hint)
        except BadRequest:
            continue
        assert isinstance(value, hint)
        if isinstance(value, float | Decimal):
            assert math.isfinite(value)


@given(
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.uuids()
    | st.datetimes(timezones=st.just(UTC)) | st.dates() | st.sampled_from(Colour)
)  # fmt: skip
def test_what_an_answer_says_is_read_as_an_argument(value: Any) -> None:
    """So that a page can send back what it was given."""
    shown = json.loads(_web_form.response_of(value, raw=False).body)
    text = shown if isinstance(shown, str) else json.dumps(shown)
    assert convert("a", [text], type(value)) == value


def test_a_name_that_is_given_twice_is_a_list_or_refused() -> None:
    assert convert("a", ["1", "2"], list[int]) == [1, 2]
    assert convert("a", ["1"], Sequence[int]) == [1]
    assert convert("a", ["1", "2"], list[int] | None) == [1, 2]
    with pytest.raises(BadRequest, match="a: is given more than once"):
        convert("a", ["1", "1"], int)


def test_names_that_nobody_takes_are_refused_and_those_left_out_have_their_defaults() -> None:
    async def handler(ctx: capsule.RequestContext, days: int, by: float = 1.0) -> None: ...

    made = declared(handler)
    assert made.arguments([("days", "7")]) == {"days": 7}
    for query, field in [
        ([], "days"), ([("days", "7"), ("x", "1")], "x"), ([("days", "7"), ("ctx", "1")], "ctx"),
        ([("days", "7"), ("", "1")], ""), ([("days", "7"), ("self", "1")], "self"),
    ]:  # fmt: skip
        with pytest.raises(BadRequest) as refused:
            made.arguments(query)
        assert refused.value.field == field
    with pytest.raises(BadRequest) as refused:
        made.arguments([("x" * 5_000, "")])
    assert len(refused.value.field) == 100


def test_a_catch_all_takes_the_rest_by_its_annotation() -> None:
    async def handler(ctx: capsule.RequestContext, /, a: str = "", **rest: int) -> None: ...

    made = declared(handler)
    assert made.arguments([("a", "x"), ("b", "1"), ("c", "2")]) == {"a": "x", "b": 1, "c": 2}
    for query in ([("b", "x")], [("b", "1"), ("b", "1")], [("ctx", "1")]):
        with pytest.raises(BadRequest):
            made.arguments(query)


# -- declarations ----------------------------------------------------------------------------


def test_what_only_a_type_checker_sees_does_no_harm_where_nothing_is_converted() -> None:
    async def handler(ctx: Report, days: int = 7) -> Report: ...

    assert declared(handler).arguments([("days", "1")]) == {"days": 1}

    async def wrong(ctx: capsule.RequestContext, report: Report) -> None: ...

    with pytest.raises(TypeError, match=r"data handler .*wrong: name 'Report' is not defined"):
        declared(wrong)


def test_an_object_with_an_async_call_is_a_handler() -> None:
    class Handler:
        async def __call__(self, ctx: capsule.RequestContext, days: int = 7) -> None: ...

    assert declared(Handler()).arguments([("days", "1")]) == {"days": 1}


def test_functions_that_cannot_be_handlers_are_refused_at_once() -> None:
    def plain(ctx: Any) -> None: ...
    async def nothing() -> None: ...
    async def by_name(*, ctx: Any) -> None: ...
    async def many(ctx: Any, *args: int) -> None: ...
    async def by_position(ctx: Any, a: int, /) -> None: ...
    async def dictionary(ctx: Any, a: dict[str, int]) -> None: ...
    async def lists(ctx: Any, a: list[list[int]]) -> None: ...
    async def bare(ctx: Any, a: list) -> None: ...  # type: ignore[type-arg]
    async def octets(ctx: Any, a: bytes) -> None: ...

    for wrong in (plain, nothing, by_name, many, by_position, dictionary, lists, bare, octets):
        with pytest.raises(TypeError, match="data handler"):
            declared(wrong)
    with pytest.raises(TypeError):
        declared(7)


def test_an_endpoint_takes_what_its_path_names_and_needs_nothing_else() -> None:
    async def order(ctx: Any, order_id: int, verbose: bool = False) -> None: ...

    assert declared(order, "endpoint", ["order_id"]).arguments([("order_id", "7")]) == {
        "order_id": 7
    }
    with pytest.raises(TypeError, match="its path names no 'order_id'"):
        declared(order, "endpoint")
    with pytest.raises(TypeError, match="does not take 'ctx'"):
        declared(order, "endpoint", ["order_id", "ctx"])


# -- answers ---------------------------------------------------------------------------------


def body(value: Any) -> Any:
    made = _web_form.response_of(value, raw=False)
    assert (made.status, made.headers[0].value) == (200, "application/json")
    return json.loads(made.body)


def test_answers_are_json_also_where_models_hold_models() -> None:
    inner = Inner(NOON, Colour.RED)
    shown = {"when": "2026-01-31T12:00:00+00:00", "colour": "red"}
    assert body(Outer(inner, [inner])) == {"inner": shown, "many": [shown]}
    model = Model(id=ID, when=NOON, colour=Colour.BLUE, inner={"a": Decimal("0.10")})
    assert body([{"m": model}]) == [
        {
            "m": {
                "id": str(ID),
                "when": "2026-01-31T12:00:00Z",
                "colour": "blue",
                "inner": {"a": "0.10"},
            }
        }
    ]
    assert body([ID, date(2026, 1, 31), Decimal("1.10"), Size.SMALL, (1, None), 2**70, "é"]) == [
        str(ID), "2026-01-31", "1.10", 1, [1, None], 2**70, "é",
    ]  # fmt: skip
    assert body(None) is None


def test_what_is_no_json_is_an_error_of_the_handler() -> None:
    circular: list[Any] = []
    circular.append(circular)
    for value in (
        math.nan, [math.inf], {1, 2}, b"bytes", object(), Model, Inner, circular, {(1, 2): 3},
        "\ud800", SimpleNamespace(a=1),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            _web_form.response_of(value, raw=False)


def test_a_response_says_its_type_by_what_it_holds() -> None:
    for content, kind, sent in [
        (b"x", [], b"x"), (bytearray(b"x"), [], b"x"),
        ("é", [("content-type", "text/plain; charset=utf-8")], "é".encode()),
        ({"a": 1}, [("content-type", "application/json")], b'{"a":1}'),
        (None, [("content-type", "application/json")], b"null"),
    ]:  # fmt: skip
        made = _web_form.response_of(capsule.Response(201, body=content), raw=True)
        assert (made.status, made.body) == (201, sent)
        assert [(h.name, h.value) for h in made.headers] == kind
    made = _web_form.response_of(capsule.Response(200, {"Content-Type": "a/b"}, "x"), raw=True)
    assert [(h.name, h.value) for h in made.headers] == [("Content-Type", "a/b")]


def test_a_response_that_cannot_be_is_an_error_of_the_handler() -> None:
    wrong: list[Any] = [
        capsule.Response(99), capsule.Response(600), capsule.Response(True),
        capsule.Response("200"),  # type: ignore[arg-type]
        capsule.Response(headers={"a": 1}),  # type: ignore[dict-item]
        capsule.Response(headers=[("a", "\ud800")]), capsule.Response(body={1}),
    ]  # fmt: skip
    for response in wrong:
        with pytest.raises((TypeError, ValueError)):
            _web_form.response_of(response, raw=True)
    with pytest.raises(TypeError, match="a data handler returns JSON"):
        _web_form.response_of(capsule.Response(), raw=False)
