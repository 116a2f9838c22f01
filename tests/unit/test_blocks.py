"""What blocks of known types carry: each rule, its path and its words; the schema says the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capsule_sidecar.model.blocks import KNOWN, MADE, check_payload
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.task_card import MAX_RESULT_BYTES, task_card
from tests.support.programs import ROOT

SCHEMA = json.loads((ROOT / "proto/capsule_protocol/v1/blocks.schema.json").read_text())
VALIDATORS = {
    name: jsonschema_rs.Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{name}"})
    for name in (*KNOWN, *MADE)
}

FILE = "fil_01jd5w3k8q9zx4m2n7c6v5b4t3"
PIXEL = "data:image/png;base64,iVBORw0KGgo="
SOURCE_RULE = (
    "must be a data: address of a PNG, JPEG, GIF, WebP or AVIF image in Base64, or a path that"
    " begins with /files/"
)

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("image", {"file_id": FILE}),
    ("image", {"file_id": FILE, "name": "dot.png", "alt": "", "width": 1, "height": 4096}),
    ("image", {"file_id": FILE, "width": 320.0}),
    ("image", {"file_id": FILE, "name": "n" * 255, "alt": "a" * 1000}),
    *[
        ("image", {"src": PIXEL.replace("png", kind)})
        for kind in ("png", "jpeg", "gif", "webp", "avif")
    ],
    ("image", {"src": f"/files/{FILE}/a%20dot.png?expires=1&signature=x-_%3D"}),
    ("image", {"src": "/files/dot.png", "alt": "a dot"}),
    ("step", {"label": "x", "status": "pending"}),
    ("step", {"label": "😀" * 200, "status": "running", "detail": ""}),
    ("step", {"label": " a ", "status": "completed", "detail": "two\nlines"}),
    ("step", {"label": "x", "status": "failed", "detail": "é" * 4000}),
    ("suggestions", {"items": ["a"]}),
    ("suggestions", {"items": ["a" * 200] * 12}),
    ("suggestions", {"items": [{"label": "a"}, {"label": "b", "text": ""}, "c"]}),
    ("suggestions", {"items": [{"label": "a" * 200, "text": "b" * 4000}]}),
]

# Type, payload, path below `block.payload`, words.
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("image", {}, "", "needs a file_id or a src"),
    ("image", {"alt": "x"}, "", "needs a file_id or a src"),
    ("image", {"file_id": FILE, "src": PIXEL}, "", "has either a file_id or a src, not both"),
    ("image", {"file_id": None}, ".file_id", "must be a string"),
    ("image", {"file_id": ""}, ".file_id", "must be the id of a file (fil_...)"),
    ("image", {"file_id": "msg_1"}, ".file_id", "must be the id of a file (fil_...)"),
    ("image", {"file_id": "fil_../x"}, ".file_id", "must be the id of a file (fil_...)"),
    ("image", {"file_id": "fil_" + "x" * 61}, ".file_id", "must be the id of a file (fil_...)"),
    *[
        ("image", {"src": src}, ".src", SOURCE_RULE)
        for src in (
            "",
            "https://pictures.example/cat.png",
            "//pictures.example/files/cat.png",
            "javascript:alert(1)",
            "/file/cat.png",
            "/files/",
            "/files/..",
            "/files/../admin",
            "/files/%2e%2e/admin",
            "/files/a/../../admin",
            "/files/a\\b",
            "/files/a/b c.png",
            " /files/a",
            "/files/a\n",
            "data:text/html;base64,AAAA",
            "data:image/svg+xml;base64,AAAA",
            "data:image/svg+xml,<svg/>",
            "data:image/png,AAAA",
            "data:image/png;base64,",
            "data:image/png;base64,<b>",
        )
    ],
    ("image", {"src": f"/files/{'x' * 65_536}"}, ".src", "has at most 65,536 characters"),
    ("image", {"file_id": FILE, "url": "/files/x"}, ".url",
     "is made by the sidecar when the block is read"),
    ("image", {"file_id": FILE, "name": "n" * 256}, ".name", "has at most 255 characters"),
    ("image", {"file_id": FILE, "alt": "a" * 1001}, ".alt", "has at most 1,000 characters"),
    ("image", {"file_id": FILE, "alt": None}, ".alt", "must be a string"),
    *[
        ("image", {"file_id": FILE, side: size}, f".{side}", words)
        for side in ("width", "height")
        for size, words in (
            (0, "must be at least 1"),
            (-1, "must be at least 1"),
            (4097, "must be at most 4096"),
            (10**400, "must be at most 4096"),
            (1.5, "must be a whole number"),
            (True, "must be a whole number"),
            ("320", "must be a whole number"),
            (None, "must be a whole number"),
        )
    ],
    ("step", {}, ".label", "is required"),
    ("step", {"label": "x"}, ".status", "is required"),
    ("step", {"label": 1, "status": "running"}, ".label", "must be a string"),
    ("step", {"label": "", "status": "running"}, ".label", "must have at least 1 character"),
    ("step", {"label": " \n", "status": "running"}, ".label", "must not be only white space"),
    ("step", {"label": "x" * 201, "status": "running"}, ".label", "has at most 200 characters"),
    *[
        ("step", {"label": "x", "status": status}, ".status",
         "must be one of 'pending', 'running', 'completed' or 'failed'")
        for status in ("", "done", "Running", "__proto__", None, 1, ["running"])
    ],
    ("step", {"label": "x", "status": "running", "detail": "x" * 4001}, ".detail",
     "has at most 4,000 characters"),
    ("step", {"label": "x", "status": "running", "detail": None}, ".detail", "must be a string"),
    ("step", {"label": "x", "status": "running", "lable": 1}, ".lable",
     "is no field of a block 'step'"),
    ("step", {"label": "x", "status": "running", "buttons": []}, ".buttons",
     "is no field of a block 'step'"),
    ("step", {"label": "x", "status": "running", "a b\n": 1}, '["a b\\n"]',
     "is no field of a block 'step'"),
    ("step", {"label": "x", "status": "running", "k" * 9999: 1}, f'["{"k" * 40}..."]',
     "is no field of a block 'step'"),
    ("suggestions", {}, ".items", "is required"),
    ("suggestions", {"items": None}, ".items", "must be a list"),
    ("suggestions", {"items": "text"}, ".items", "must be a list"),
    ("suggestions", {"items": {"0": "a"}}, ".items", "must be a list"),
    ("suggestions", {"items": []}, ".items", "must have at least 1 item"),
    ("suggestions", {"items": ["a"] * 13}, ".items", "has at most 12 items"),
    ("suggestions", {"items": ["a", None]}, ".items[1]", "must be a string or an object"),
    ("suggestions", {"items": ["a", "b", ["c"]]}, ".items[2]", "must be a string or an object"),
    ("suggestions", {"items": [""]}, ".items[0]", "must have at least 1 character"),
    ("suggestions", {"items": ["a", "\t"]}, ".items[1]", "must not be only white space"),
    ("suggestions", {"items": ["x" * 201]}, ".items[0]", "has at most 200 characters"),
    ("suggestions", {"items": ["a", "b", {}]}, ".items[2].label", "is required"),
    ("suggestions", {"items": ["a", "b", {"label": 1}]}, ".items[2].label", "must be a string"),
    ("suggestions", {"items": [{"label": " "}]}, ".items[0].label", "must not be only white space"),
    ("suggestions", {"items": [{"label": "a", "text": None}]}, ".items[0].text",
     "must be a string"),
    ("suggestions", {"items": [{"label": "a", "text": "x" * 4001}]}, ".items[0].text",
     "has at most 4,000 characters"),
    # Named as the forms of an item are inside.
    ("suggestions", {"items": [{"label": "a", "object": 1}]}, ".items[0].object",
     "is no field of a block 'suggestions'"),
    ("suggestions", {"items": [{"label": "a", "text": {"text": 1}}]}, ".items[0].text",
     "must be a string"),
    ("suggestions", {"items": ["a"], "title": "x"}, ".title",
     "is no field of a block 'suggestions'"),
]  # fmt: skip


def refusal(kind: str, payload: object) -> InvalidArgument | None:
    """Returns how a payload is refused; None: it passes."""
    try:
        check_payload(kind, json.dumps(payload).encode())
    except InvalidArgument as error:
        return error
    return None


@pytest.mark.parametrize(("kind", "payload"), GOOD)
def test_a_payload_within_the_rules_passes(kind: str, payload: dict[str, Any]) -> None:
    assert refusal(kind, payload) is None
    assert VALIDATORS[kind].is_valid(payload)


@pytest.mark.parametrize(("kind", "payload", "path", "words"), BAD)
def test_a_payload_outside_of_them_is_refused_by_its_path(
    kind: str, payload: dict[str, Any], path: str, words: str
) -> None:
    error = refusal(kind, payload)
    assert error is not None
    assert (error.field, error.description) == (f"block.payload{path}", words)
    # The schema has what is made when read, for those who read.
    assert VALIDATORS[kind].is_valid(payload) is ("url" in payload)


def test_the_first_fault_is_named_alone_and_no_value_of_the_payload_with_it() -> None:
    secret = "sk-12345"
    error = refusal("step", {"label": secret * 100, "status": secret, "detail": 1, secret[:2]: 1})
    assert error is not None
    assert error.message == "block.payload.label: has at most 200 characters"
    assert error.__context__ is None, "pydantic's error knows the input"
    error = refusal("suggestions", {"items": [secret, {"label": "a", "text": [secret]}, 1]})
    assert error is not None
    assert error.message == "block.payload.items[1].text: must be a string"


def test_the_path_begins_where_the_request_has_the_payload() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_payload("step", b"{}", "card.body_json")
    assert caught.value.field == "card.body.label"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"label": "half \\ud800", "status": "running"}',
        b'{"label": ' + b"9" * 5000 + b"}",
        b'{"label": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
    ids=["half a surrogate", "a number of 5,000 digits", "depth"],
)
def test_json_that_no_model_can_hold_is_refused_as_a_whole(payload: bytes) -> None:
    for kind in KNOWN:
        with pytest.raises(InvalidArgument) as caught:
            check_payload(kind, payload)
        assert caught.value.field == "block.payload_json"
        assert caught.value.description == f"cannot be read as the payload of a block {kind!r}"


@pytest.mark.parametrize("payload", [b"[]", b"1", b"null", b'"text"'])
def test_only_an_object_is_a_payload(payload: bytes) -> None:
    for kind in KNOWN:
        with pytest.raises(InvalidArgument, match=r"^block\.payload: must be an object$"):
            check_payload(kind, payload)


@pytest.mark.parametrize("kind", ["card", "Step", "steps", "suggestion", "image.x", ""])
def test_any_other_type_carries_what_it_likes(kind: str) -> None:
    check_payload(kind, b'{"label": 1, "items": []}')


TEXTS = st.text(max_size=8) | st.sampled_from(
    [FILE, PIXEL, "/files/a", "running", "x" * 200, "x" * 201]
)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 5000)
ANY = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=14)
        | st.dictionaries(
            st.sampled_from(["label", "text"]) | st.text(max_size=4), inner, max_size=4
        )
    ),
    max_leaves=20,
)
# Now and then a name that a type has, so that what lies below it is reached.
FIELDS = sorted({name for part in SCHEMA["$defs"].values() for name in part["properties"]})
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), ANY, max_size=5)
_PATH = re.compile(r'block\.payload(_json)?((\.[A-Za-z_]\w{0,63})|(\[(\d+|".*")\]))*', re.DOTALL)


@given(st.sampled_from(sorted(KNOWN)), OBJECTS)
@example("suggestions", {"items": [{"label": "a", "": 1}]})
def test_any_object_passes_or_is_refused_by_a_path_of_the_payload(
    kind: str, payload: dict[str, Any]
) -> None:
    error = refusal(kind, payload)
    if error is not None:
        assert _PATH.fullmatch(error.field), error.field
        assert error.description
        assert "is not what a block" not in error.description, "a fault without words of its own"
        assert error.message.isascii()


LABELS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zs")), max_size=4)
NEAR = {
    "image": st.fixed_dictionaries(
        {},
        optional={
            "file_id": st.sampled_from([FILE, "fil_", 1]),
            "src": st.sampled_from([PIXEL, "/files/a", "/files/../a", None]),
            "name": LABELS,
            "alt": LABELS | st.none(),
            "width": NUMBERS,
            "height": NUMBERS,
        },
    ),
    "step": st.fixed_dictionaries(
        {},
        optional={
            "label": LABELS | st.sampled_from([" ", "x" * 200, "x" * 201, 1]),
            "status": st.sampled_from(["pending", "running", "completed", "failed", "x", 1]),
            "detail": LABELS | st.none(),
            "other": st.none(),
        },
    ),
    "suggestions": st.fixed_dictionaries(
        {
            "items": st.lists(
                LABELS
                | st.fixed_dictionaries(
                    {}, optional={"label": LABELS | st.none(), "text": LABELS, "x": st.none()}
                ),
                max_size=14,
            )
        }
    ),
}


@given(st.sampled_from(sorted(NEAR)).flatmap(lambda kind: st.tuples(st.just(kind), NEAR[kind])))
def test_the_schema_takes_what_the_sidecar_takes(found: tuple[str, dict[str, Any]]) -> None:
    kind, payload = found
    assert VALIDATORS[kind].is_valid(payload) is (refusal(kind, payload) is None)


def test_the_schema_is_one_and_describes_every_field_with_its_bounds() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    types = [*KNOWN, *MADE]
    assert list(SCHEMA["$defs"])[: len(types)] == types
    assert [name for name in types if SCHEMA["$defs"][name].get("readOnly")] == list(MADE)
    for name, part in SCHEMA["$defs"].items():
        assert part["title"], name
        assert part["description"], name
        assert part["additionalProperties"] is False
        for field, rules in part["properties"].items():
            described = rules["description"]
            for bound in ("minimum", "maximum", "maxLength", "minItems", "maxItems"):
                if bound in rules:
                    assert f"{rules[bound]:,}" in described, (name, field, bound)
            for value in rules.get("enum", ()):
                assert f"`{value}`" in described, (name, field, value)


KINDS = {
    "string": "string",
    "integer": "whole number",
    "number": "number",
    "array": "list",
    None: "any value",
}


def fields_of(prefix: str, part: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields path, kind and description of every field, those of a list's items behind it."""
    for name, rules in part["properties"].items():
        required = ", required" if name in part.get("required", ()) else ""
        yield f"{prefix}{name}", KINDS[rules.get("type")] + required, rules["description"]
        for form in rules.get("items", {}).get("oneOf", ()):
            if "$ref" in form:
                inner = SCHEMA["$defs"][form["$ref"].rpartition("/")[2]]
                yield from fields_of(f"{prefix}{name}[].", inner)


def test_the_comments_of_the_proto_list_every_field_of_the_known_payloads() -> None:
    text = (ROOT / "proto/capsule_protocol/v1/types.proto").read_text()
    comment = text.partition("\nmessage Block {\n")[2].partition("  bytes payload_json")[0]
    lines = [line.strip().removeprefix("//").strip() for line in comment.splitlines()]
    _, *found = " ".join(lines).split(" - `")
    assert [f"`{item}" for item in found] == [
        f"`{path}` ({kind}): {described}"
        for name in (*KNOWN, *MADE)
        for path, kind, described in fields_of(f"{name}.", SCHEMA["$defs"][name])
    ]


def test_the_table_of_the_blocks_page_is_that_of_the_models() -> None:
    page = (ROOT / "docs/blocks.md").read_text()
    begin = re.compile(r"\| `(image|step|sug\w+|task)` \| `")
    rows = [line for line in page.splitlines() if begin.match(line)]
    assert rows == [
        f"| `{name}` | `{path}` | {kind} | {described} |"
        for name in (*KNOWN, *MADE)
        for path, kind, described in fields_of("", SCHEMA["$defs"][name])
    ]


def test_a_handler_shows_no_block_of_a_type_that_the_sidecar_makes() -> None:
    error = refusal("task", json.loads(card()))
    assert error is not None
    assert (error.field, error.description) == (
        "block.type",
        "'task' is made by the sidecar: use show_task",
    )


def card(**changed: Any) -> bytes:
    """Returns a card of a task that runs."""
    return task_card(**{"task_id": "tsk_1", "name": "sync", "status": "running"} | changed)


COUNTS = {"attempt": 0, "failures": 0, "retries": 0}
SAID = {"task_id": "tsk_1", "name": "sync"} | COUNTS
# 2026-11-23T11:42:04.123Z
START = 1_795_434_124_123

RESULTS: list[Any] = [{"synced": 1}, {}, [], "", 0, False, "x" * (MAX_RESULT_BYTES - 2), 10**40]

CARDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"status": "running"}),
    ({"message": "Größe 😀"}, {"status": "running", "message": "Größe 😀"}),
    ({"progress": 0.0}, {"status": "running", "progress": 0}),
    (
        {"progress": 0.4, "progress_message": "40 of 100"},
        {"status": "running", "progress": 0.4, "progress_message": "40 of 100"},
    ),
    *[
        ({"status": status, "start_ms": START}, {"status": status} | when)
        for status, when in (
            ("scheduled", {"start_time": "2026-11-23T11:42:04.123Z"}),
            ("retrying", {"start_time": "2026-11-23T11:42:04.123Z"}),
            ("pending", {}),
            ("running", {}),
            ("failed", {}),
        )
    ],
    (
        {"status": "failed", "reference_id": "E-7", "reason": "HANDLER_ERROR", "attempt": 3,
         "failures": 3, "retries": 2},
        {"status": "failed", "reference_id": "E-7", "reason": "HANDLER_ERROR", "attempt": 3,
         "failures": 3, "retries": 2},
    ),
    ({"status": "completed"}, {"status": "completed"}),
    ({"status": "completed", "result_json": b" null\n"}, {"status": "completed"}),
    *[
        ({"status": "completed", "result_json": json.dumps(value).encode()},
         {"status": "completed", "result": value})
        for value in RESULTS
    ],
    (
        {"status": "completed", "result_json": b'"' + b"x" * (MAX_RESULT_BYTES - 1) + b'"'},
        {"status": "completed"},
    ),
    ({"status": "running", "result_json": b"1"}, {"status": "running"}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "payload"), CARDS)
def test_the_card_of_a_task_says_what_belongs_to_its_status(
    given: dict[str, Any], payload: dict[str, Any]
) -> None:
    found = json.loads(card(**given))
    assert found == SAID | payload
    assert VALIDATORS["task"].is_valid(found)
    MADE["task"].model_validate_json(card(**given))


def test_a_result_is_kept_byte_by_byte_also_where_no_model_holds_it() -> None:
    for result in (b'{"n":1.10}', b"[" * 900 + b"]" * 900, b"9" * 5000, b'"\\ud800"'):
        made = card(status="completed", result_json=result)
        assert made.endswith(b',"result":' + result + b"}")


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "queued"},
        {"progress": 1.01},
        {"progress": -0.1},
        {"progress": float("nan")},
        {"name": ""},
        {"task_id": ""},
        {"message": "x" * 1001},
        {"attempt": -1},
    ],
)
def test_a_card_with_a_value_that_it_has_not_is_not_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Task"):
        card(**wrong)
