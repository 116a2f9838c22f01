"""What the blocks of known types carry.

The models are the one place of their rules: the sidecar checks payloads by them, and the JSON
Schema for those who render blocks, the protocol's comments and the documentation follow from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from capsule_sidecar.model.errors import InvalidArgument

# The type of pydantic's errors whose message is written here.
_OURS = "block"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LONGEST_NAME = 40

# Which of its two forms a suggestion has. Pydantic puts them into an error's place.
_TEXT, _OBJECT = "text", "object"


def _whole(value: object) -> object:
    """Take 320.0 for 320, as JSON Schema does: JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refuse_url(_: object) -> NoReturn:
    raise PydanticCustomError(_OURS, "is made by the sidecar when the block is read")


def _form(value: object) -> str | None:
    if isinstance(value, str):
        return _TEXT
    return _OBJECT if isinstance(value, dict) else None


def _no_default(schema: dict[str, Any]) -> None:
    del schema["default"]


def _made_when_read(schema: dict[str, Any]) -> None:
    _no_default(schema)
    schema["readOnly"] = True


# Not only white space: a person must see something.
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Detail = Annotated[str, Field(max_length=4_000)]
Pixels = Annotated[
    int, Field(ge=1, le=4_096), BeforeValidator(_whole), Field(json_schema_extra=_no_default)
]


class Payload(BaseModel):
    """What a block carries: the fields that are named here and no other, none of them null."""

    # Built with the first block: a sidecar's start is not the time for it.
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, defer_build=True
    )


class Image(Payload):
    """An image: a file that the sidecar keeps, or a small one in the payload itself."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["file_id"]}, {"required": ["src"]}]}
    )

    file_id: Annotated[
        str,
        Field(
            pattern=r"^fil_[0-9A-Za-z_-]{1,60}$",
            json_schema_extra=_no_default,
            description="The id of a file of the session. Either this or `src`.",
        ),
    ] = ""
    src: Annotated[
        str,
        Field(
            max_length=65_536,
            pattern=(
                r"^(data:image/(png|jpeg|gif|webp|avif);base64,[A-Za-z0-9+/]+={0,2}"
                r"|/files/[0-9A-Za-z_-][0-9A-Za-z._-]*(/[^/?#\\\s]+)?(\?[^#\\\s]*)?)$"
            ),
            json_schema_extra=_no_default,
            description=(
                "A `data:` address of a PNG, JPEG, GIF, WebP or AVIF image in Base64, or a path"
                " that begins with `/files/`; at most 65,536 characters. Nothing is loaded from"
                " elsewhere."
            ),
        ),
    ] = ""
    url: Annotated[
        str,
        BeforeValidator(_refuse_url),
        Field(
            json_schema_extra=_made_when_read,
            description=(
                "The file's signed address, good for 7 days. The sidecar makes it when the block is"
                " read; a handler does not give it."
            ),
        ),
    ] = ""
    name: Annotated[
        str, Field(max_length=255, description="The file's name, at most 255 characters.")
    ] = ""
    alt: Annotated[
        str,
        Field(
            max_length=1_000,
            description=(
                "What it shows, for who does not see it: at most 1,000 characters. Empty: it is"
                " decoration."
            ),
        ),
    ] = ""
    width: Annotated[
        Pixels, Field(description="CSS pixels, 1 to 4,096. Without it: as wide as the image is.")
    ] = 0
    height: Annotated[
        Pixels, Field(description="CSS pixels, 1 to 4,096. Without it: as high as the width asks.")
    ] = 0

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = self.model_fields_set & {"file_id", "src"}
        if not given:
            raise PydanticCustomError(_OURS, "needs a file_id or a src")
        if len(given) > 1:
            raise PydanticCustomError(_OURS, "has either a file_id or a src, not both")
        return self


class Step(Payload):
    """A step of the work, with a mark of how far it is."""

    label: Annotated[
        Label, Field(description="What is done: 1 to 200 characters, not only white space.")
    ]
    status: Annotated[
        Literal["pending", "running", "completed", "failed"],
        Field(description="How far it is: `pending`, `running`, `completed` or `failed`."),
    ]
    detail: Annotated[
        Detail, Field(description="What else is to be said of it, at most 4,000 characters.")
    ] = ""


class Suggestion(Payload):
    """A suggestion that sends another text than the one it shows."""

    label: Annotated[
        Label, Field(description="What is shown: 1 to 200 characters, not only white space.")
    ]
    text: Annotated[
        Detail,
        Field(description="What a click sends, at most 4,000 characters. Empty: the label."),
    ] = ""


class Suggestions(Payload):
    """Texts that a person may send with one click."""

    items: Annotated[
        tuple[
            Annotated[
                Annotated[
                    Label,
                    Field(description="Shown, and sent by a click: 1 to 200 characters."),
                    Tag(_TEXT),
                ]
                | Annotated[Suggestion, Tag(_OBJECT)],
                Discriminator(_form),
            ],
            ...,
        ],
        FailFast(),
        Field(
            min_length=1,
            max_length=12,
            description=(
                "1 to 12 suggestions, each a text of 1 to 200 characters or an object with `label`"
                " and `text`."
            ),
        ),
    ]


TaskStatus = Literal[
    "scheduled", "pending", "running", "retrying", "completed", "failed", "cancelled", "timed_out"
]


class Task(Payload):
    """A background task and how far it is. The sidecar makes it and keeps it current."""

    model_config = ConfigDict(json_schema_extra={"readOnly": True})

    task_id: Annotated[
        str,
        Field(
            pattern=r"^[0-9A-Za-z_-]{1,128}$",
            description="The task's id, which is also the block's.",
        ),
    ]
    name: Annotated[
        str,
        Field(min_length=1, max_length=128, description="What handles it: 1 to 128 characters."),
    ]
    message: Annotated[
        str,
        Field(
            max_length=1_000,
            description="What is said about it, at most 1,000 characters. Empty: its name is.",
        ),
    ] = ""
    status: Annotated[
        TaskStatus,
        Field(
            description=(
                "How far it is: `scheduled`, `pending`, `running`, `retrying`, `completed`,"
                " `failed`, `cancelled` or `timed_out`."
            )
        ),
    ]
    progress: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            json_schema_extra=_no_default,
            description="How far it says it is, from 0 to 1. Without it: it has not said.",
        ),
    ] = 0
    progress_message: Annotated[
        str,
        Field(max_length=1_000, description="What it says of it, at most 1,000 characters."),
    ] = ""
    result: Annotated[
        Any,
        Field(
            json_schema_extra=_no_default,
            description=(
                "What it returned, once it is completed: any JSON value of at most 8 KiB. Left out"
                " where it is longer or null."
            ),
        ),
    ] = None
    reference_id: Annotated[
        str,
        Field(
            max_length=64,
            description=(
                "What a person can quote to the operator where it failed, at most 64 characters."
            ),
        ),
    ] = ""
    reason: Annotated[
        str,
        Field(
            max_length=64,
            description=(
                "Why it did not complete, as `HANDLER_ERROR` or `DEADLINE`; at most 64 characters."
            ),
        ),
    ] = ""
    start_time: Annotated[
        str,
        Field(
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z$",
            json_schema_extra=_no_default,
            description=(
                "When it begins, or begins again, at the earliest, while it is `scheduled` or"
                " `retrying`: ISO 8601, UTC."
            ),
        ),
    ] = ""
    attempt: Annotated[
        int, Field(ge=0, description="The attempt that runs or ran last; 0: none has begun.")
    ]
    failures: Annotated[int, Field(ge=0, description="Tries that failed, from 0.")]
    retries: Annotated[
        int, Field(ge=0, description="How many failed tries are tried again, from 0.")
    ]


# What a handler shows, by the block's type.
KNOWN: Mapping[str, type[Payload]] = MappingProxyType(
    {"image": Image, "step": Step, "suggestions": Suggestions}
)
# What only the sidecar shows, and the call of a handler that asks for it.
MADE: Mapping[str, type[Payload]] = MappingProxyType({"task": Task})
_ASKED_BY = {"task": "show_task"}


def check_payload(block_type: str, payload_json: bytes, field: str = "block.payload_json") -> None:
    """Check what a handler's block of a known type carries. Any other type passes.

    Args:
        block_type: The block's type.
        payload_json: Its payload, a JSON object. What is kept are these bytes.
        field: Where the request has them, for the error.

    Raises:
        InvalidArgument: The payload is not what its type has. The first fault is named, by a path
            below `field` without `_json`: `block.payload.items[2].label`. Or the type, beside it,
            is one that only the sidecar shows.
    """
    if block_type in MADE:
        raise InvalidArgument(
            field.removesuffix("payload_json") + "type",
            f"{block_type!r} is made by the sidecar: use {_ASKED_BY[block_type]}",
        )
    model = KNOWN.get(block_type)
    if model is None:
        return
    try:
        model.model_validate_json(payload_json)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    else:
        return
    # Outside the handler: the error of pydantic, which knows the input, is not its context.
    if first["type"] == "json_invalid":
        raise InvalidArgument(field, f"cannot be read as the payload of a block {block_type!r}")
    raise InvalidArgument(
        field.removesuffix("_json") + _path(first["loc"]), _sentence(first, block_type)
    )


def image_file(payload_json: bytes) -> tuple[str, str]:
    """Return the id and the name of the file that an image shows; empty where it is no file.

    The one reading of it: what may be shown and what gets an address is decided by the same value,
    however the JSON writes its keys.

    Args:
        payload_json: The payload of a block `image`.

    Raises:
        ValueError: It is none, as blocks of sidecars may be that did not check them.
    """
    image = Image.model_validate_json(payload_json)
    return image.file_id, image.name


def _path(place: tuple[int | str, ...]) -> str:
    parts: list[str] = []
    after_index = False
    for part in place:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        elif not after_index:  # else it is the form of the item, no field
            parts.append(f".{part}" if _NAME.fullmatch(part) else f"[{_quoted(part)}]")
        after_index = isinstance(part, int)
    return "".join(parts)


def _quoted(name: str) -> str:
    return json.dumps(name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "...")


def _sentence(error: ErrorDetails, block_type: str) -> str:
    """Say what is wrong in words of the payload's author."""
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return f"is no field of a block {block_type!r}"
        case "string_type":
            return "must be a string"
        case "string_too_short":
            return f"must have at least {_count(context['min_length'], 'character')}"
        case "string_too_long":
            return f"has at most {_count(context['max_length'], 'character')}"
        case "string_pattern_mismatch":
            return _PATTERNS.get(str(error["loc"][-1]), "must not be only white space")
        case "int_type" | "int_from_float":
            return "must be a whole number"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "literal_error":
            return f"must be one of {context['expected']}"
        case "tuple_type":
            return "must be a list"
        case "too_short":
            return f"must have at least {_count(context['min_length'], 'item')}"
        case "too_long":
            return f"has at most {_count(context['max_length'], 'item')}"
        case "union_tag_not_found":
            return "must be a string or an object"
        case "model_type":
            return "must be an object"
    if error["type"] == _OURS:
        return error["msg"]
    return f"is not what a block {block_type!r} has here"


_PATTERNS = {
    "file_id": "must be the id of a file (fil_...)",
    "src": (
        "must be a data: address of a PNG, JPEG, GIF, WebP or AVIF image in Base64, or a path that"
        " begins with /files/"
    ),
}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
