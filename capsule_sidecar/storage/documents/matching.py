"""What paths lead to in a form, and whether a form matches: for one document in memory.

Queries ask the database (`sql`). This is for what a writer does with a document that it holds
anyway: `$pull`, and the keys of declared indexes. Both follow the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator

from capsule_sidecar.storage.documents import forms
from capsule_sidecar.storage.documents.filters import Condition, Every, Not, Op, Path, Some, Test
from capsule_sidecar.storage.documents.forms import Form


def reached(form: Form, path: Path) -> Iterator[Form | None]:
    """Yield what a path leads to; None for each object, or other value, where it ends too soon."""
    if not path:
        yield form
        return
    part, rest = path[0], path[1:]
    if isinstance(form, dict):
        yield from _member(form, part, rest)
    elif isinstance(form, list):
        for element in form:
            if isinstance(element, dict):
                yield from _member(element, part, rest)
        if is_index(part) and int(part) < len(form):
            yield from reached(form[int(part)], rest)
    else:
        yield None


def _member(form: dict[str, Form], part: str, rest: Path) -> Iterator[Form | None]:
    member = form.get(forms.name(part))
    if member is None:
        yield None
    else:
        yield from reached(member, rest)


def is_index(part: str) -> bool:
    """Tell whether a path's part can name an element of an array."""
    return part.isascii() and part.isdigit() and len(part) < 8 and (part == "0" or part[0] != "0")


def index_keys(form: Form, path: Path) -> tuple[set[str], bool]:
    """Return the keys of a form at a path, and whether they say less than what sorts.

    So it is where an array lies on the path, or an object at its end, whose key is a digest.
    """
    keys: set[str] = set()
    crossed = _crosses(form, path)
    for value in reached(form, path):
        keys.add(forms.NULL if value is None else forms.index_key(value))
        if isinstance(value, list):
            keys.update(forms.index_key(element) for element in value)
    return keys, crossed


def _crosses(form: Form | None, path: Path) -> bool:
    for part in path:
        if not isinstance(form, dict):
            break
        form = form.get(forms.name(part))
    return isinstance(form, dict | list)


def matches(form: Form, condition: Condition) -> bool:
    """Tell whether a form is as a condition has it."""
    match condition:
        case Test():
            return any(_holds(value, condition) for value in reached(form, condition.path))
        case Every():
            return all(matches(form, part) for part in condition.of)
        case Some():
            return any(matches(form, part) for part in condition.of)
        case Not():
            return not matches(form, condition.of)


def _holds(value: Form | None, test: Test) -> bool:
    match test.op:
        case Op.EXISTS:
            return value is not None
        case Op.SIZE:
            return isinstance(value, list) and len(value) == test.size
    if value is None:
        return _is(forms.NULL, test)
    if isinstance(value, list) and test.op is Op.CONTAINS:
        return test.form in value
    return _is(value, test) or (
        isinstance(value, list) and any(_is(element, test) for element in value)
    )


def _is(value: Form, test: Test) -> bool:
    if test.op is Op.EQUAL:
        return value == test.form
    if test.op is Op.IN:
        return value in test.forms
    if not isinstance(value, str) or not isinstance(test.form, str):
        return False
    operand = test.form
    if value[0] != operand[0]:
        return False
    match test.op:
        case Op.GREATER:
            return value > operand
        case Op.GREATER_EQUAL:
            return value >= operand
        case Op.LESS:
            return value < operand
        case Op.LESS_EQUAL:
            return value <= operand
        case Op.STARTS:
            return value.startswith(operand)
        case Op.ENDS:
            return value[1:].endswith(operand[1:])
        case _:
            return value[0] == forms.STRING and operand[1:] in value[1:]
