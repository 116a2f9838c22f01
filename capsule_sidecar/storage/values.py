"""A session's data: top-level keys with JSON values."""

from __future__ import annotations

import json
from typing import NoReturn

from sqlalchemy import delete, select

from capsule_sidecar.model.errors import DomainError, InvalidArgument, LimitExceeded
from capsule_sidecar.model.types import DataPatch
from capsule_sidecar.storage import schema
from capsule_sidecar.storage.documents.jsons import MAX_NUMBER
from capsule_sidecar.storage.rows import SessionRow
from capsule_sidecar.storage.unit import Unit

MAX_KEY = 256


def check_json(data: bytes, field: str) -> None:
    """Check that bytes are one UTF-8 JSON value as RFC 8259 has it.

    Args:
        data: The bytes.
        field: The request's field, for the error.

    Raises:
        InvalidArgument: They are not; NaN and the infinities are not JSON. Or a number has more
            than 400 characters: some language could not read what is beside it.
    """

    def refuse(name: str) -> NoReturn:
        raise InvalidArgument(field, f"{name} is not JSON")

    def keep(number: str) -> str:
        if len(number) > MAX_NUMBER:
            raise InvalidArgument(
                field, f"{number[:20]}... is too long: a number has at most {MAX_NUMBER} characters"
            )
        return number

    try:
        # Numbers stay text: nobody here counts with them.
        json.loads(data.decode(), parse_constant=refuse, parse_int=keep, parse_float=keep)
    except UnicodeDecodeError:
        raise InvalidArgument(field, "is not UTF-8") from None
    except RecursionError:
        raise InvalidArgument(field, "is nested too deeply") from None
    except ValueError as error:
        raise InvalidArgument(field, f"is not JSON: {error}") from None


def check_patch(patch: DataPatch, field: str) -> None:
    """Check keys and values of a patch.

    Raises:
        InvalidArgument: A key is empty, too long or named twice, or a value is not JSON.
    """
    for key in (*patch.set_json, *patch.delete_keys):
        if not key or len(key) > MAX_KEY:
            raise InvalidArgument(field, f"keys have 1 to {MAX_KEY} characters; {key[:40]!r}")
        if "\0" in key:
            raise InvalidArgument(field, f"keys have no NUL character; {key[:40]!r}")
    for key, value in patch.set_json.items():
        check_json(value, f"{field}.set_json[{key!r}]")
        if key in patch.delete_keys:
            raise InvalidArgument(field, f"{key!r} is both set and deleted")


def patch_data(unit: Unit, session: SessionRow, patch: DataPatch) -> None:
    """Apply changes of a session's data, whole or not at all.

    Raises:
        LimitExceeded: The data would be too large.
    """
    touched = [*patch.set_json, *patch.delete_keys]
    columns = schema.session_data.c
    sizes: dict[str, int] = {}
    for start in range(0, len(touched), 500):
        rows = unit.query(
            select(columns.key, columns.value).where(
                columns.session == session.id, columns.key.in_(touched[start : start + 500])
            )
        )
        sizes.update((key, len(key.encode()) + len(value)) for key, value in rows)
    total = session.data_bytes - sum(sizes.values())
    total += sum(len(key.encode()) + len(value) for key, value in patch.set_json.items())
    maximum = unit.terms.max_data_bytes
    if total > maximum and total > session.data_bytes:
        raise LimitExceeded(
            "session_data", maximum, f"the session's data would have {total} bytes of {maximum}"
        )
    removed = [key for key in patch.delete_keys if key in sizes]
    if removed:
        unit.execute(
            delete(schema.session_data).where(
                columns.session == session.id, columns.key.in_(removed)
            )
        )
    for key, value in patch.set_json.items():
        unit.data[session.id, key] = (session.id, key, value)
    session.data_bytes = total
    unit.change(session)
    unit.patched.append((session.id, patch))


def apply_patch(unit: Unit, session: SessionRow, patch: DataPatch) -> bool:
    """Apply the changes that an outcome carries; tell whether they could be."""
    if not patch:
        return True
    try:
        check_patch(patch, "data")
        patch_data(unit, session, patch)
    except DomainError:
        return False
    return True
