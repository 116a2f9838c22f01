"""Updates: operators on one document, checked before any document is touched.

What is wrong with the update itself is InvalidArgument and found by `parse_update`; what a stored
value does not allow is WrongType and found while it is applied. Both name the path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from capsule_sidecar.model.errors import InvalidArgument, WrongType
from capsule_sidecar.storage.documents import forms
from capsule_sidecar.storage.documents.filters import (
    OWN_NAMES,
    Bounds,
    Condition,
    Filter,
    Op,
    Path,
    Test,
    check_names,
    check_path,
    read_filter,
    read_operators,
)
from capsule_sidecar.storage.documents.jsons import Json, Number, SumRefused, parse_object, plus
from capsule_sidecar.storage.documents.matching import is_index, matches

Document = dict[str, Json]

OPERATORS = ("$set", "$unset", "$inc", "$push", "$pull", "$addToSet", "$min", "$max")
# What a `$set` of a document's own id or times is: nothing is set, it must be what is there.
OWN = "own"
# Elements that setting one far behind an array's end may add.
MAX_PADDING = 1_000


@dataclass(frozen=True, slots=True)
class Change:
    """One operator at one path.

    Attributes:
        op: The operator, or OWN.
        path: The path's parts.
        where: The place in the request, for errors.
        values: What is set, added, pushed or compared with.
        condition: What `$pull` removes.
    """

    op: str
    path: Path
    where: str
    values: tuple[Json, ...] = ()
    condition: Condition | None = None


Update = tuple[Change, ...]


def parse_update(data: bytes, where: str = "update") -> Update:
    """Read and check an update.

    Args:
        data: A UTF-8 JSON object: operators, or plain fields to set.
        where: The request's field; errors name the path below it, as `update.$inc.n`.

    Raises:
        InvalidArgument: It is no update.
    """
    value = parse_object(data, where)
    operators = [name for name in value if name.startswith("$")]
    if not operators:
        return _checked({"$set": value}, where, plain=True)
    if len(operators) < len(value):
        plain = next(name for name in value if not name.startswith("$"))
        raise InvalidArgument(f"{where}.{plain}", f"a plain field beside {operators[0]}")
    return _checked(value, where, plain=False)


def _checked(value: dict[str, Json], where: str, *, plain: bool) -> Update:
    bounds = Bounds()
    found: list[Change] = []
    for name, fields in value.items():
        place = where if plain else f"{where}.{name}"
        if name not in OPERATORS:
            raise InvalidArgument(place, f"is no operator; there are {', '.join(OPERATORS)}")
        if not isinstance(fields, dict):
            raise InvalidArgument(place, "takes an object of paths")
        if not plain:
            bounds.part(place)
        for text, operand in fields.items():
            here = f"{place}.{text}"
            bounds.part(here)
            path = check_path(text, here)
            if path[0] in OWN_NAMES and (name != "$set" or len(path) > 1):
                raise InvalidArgument(here, f"{path[0]} cannot be changed")
            for other in found:
                if _overlap(other.path, path):
                    raise InvalidArgument(here, f"changes the same as {other.where}")
            found.append(_change(name, path, operand, here, bounds))
    return tuple(found)


def _overlap(left: Path, right: Path) -> bool:
    shorter = min(len(left), len(right))
    return left[:shorter] == right[:shorter]


def _change(op: str, path: Path, operand: Json, where: str, bounds: Bounds) -> Change:
    if path[0] in OWN_NAMES:
        return Change(OWN, path, where, (operand,))
    match op:
        case "$unset":
            return Change(op, path, where)
        case "$inc":
            if not isinstance(operand, Number):
                raise InvalidArgument(where, "takes a number")
        case "$push" | "$addToSet":
            return Change(op, path, where, _pushed(operand, where, bounds))
        case "$pull":
            return Change(op, path, where, condition=_pulled(operand, where, bounds))
    check_names(operand, where)
    return Change(op, path, where, (operand,))


def _pushed(operand: Json, where: str, bounds: Bounds) -> tuple[Json, ...]:
    values: list[Json] = [operand]
    if isinstance(operand, dict) and any(name.startswith("$") for name in operand):
        for name in operand:
            if name != "$each":
                raise InvalidArgument(f"{where}.{name}", "beside a value there is only $each")
        each = operand["$each"]
        if not isinstance(each, list):
            raise InvalidArgument(f"{where}.$each", "takes a list of values")
        bounds.values(len(each), where)
        values = each
    check_names(values, where)
    return tuple(values)


def _pulled(operand: Json, where: str, bounds: Bounds) -> Condition:
    """Return what an element must be like: a value, as operators say, or as a filter says."""
    if not isinstance(operand, dict):
        check_names(operand, where)
        return Test((), Op.EQUAL, (forms.form(operand),))
    if any(name.startswith("$") and name not in ("$and", "$or") for name in operand):
        return read_operators((), operand, where, bounds)
    return read_filter(operand, where, bounds).condition


# -- applying ----------------------------------------------------------------------------------


def apply(update: Update, document: Document) -> None:
    """Change a document in place. Whose id and times it names is the caller's to check.

    Raises:
        WrongType: A value that is there does not allow it; the document is half changed then.
    """
    for change in update:
        if change.op != OWN:
            _APPLY[change.op](document, change)


def seed(found: Filter) -> tuple[str, Document]:
    """Return what an upsert begins with: an id, or none, and the fields that a filter equates.

    Raises:
        InvalidArgument: They contradict each other, or say what only the sidecar says.
    """
    key = ""
    document: Document = {}
    taken: list[Path] = []
    for path, value, where in found.equalities:
        if path == ("id",):
            if not isinstance(value, str) or key not in ("", value):
                raise InvalidArgument(where, "no document can be made with this id")
            key = check_id(value, where)
            continue
        if path[0] in OWN_NAMES:
            raise InvalidArgument(where, f"no document can be made with a given {path[0]}")
        if any(_overlap(path, other) for other in taken):
            raise InvalidArgument(where, "no document can be made of two equalities at one path")
        taken.append(path)
        check_names(value, where)
        _set(document, Change("$set", path, where, (_copy(value),)))
    return key, document


def check_id(value: Json, where: str) -> str:
    """Return a document's id.

    Raises:
        InvalidArgument: It is no string of 1 to 128 characters, or has one that cannot be kept.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= 128:
        raise InvalidArgument(where, "an id has 1 to 128 characters")
    if "\0" in value:
        raise InvalidArgument(where, "an id has no NUL character")
    return value


Container = dict[str, Json] | list[Json]


def _parent(document: Document, change: Change, *, make: bool) -> Container | None:
    """Return what holds the last part of the path; None where it is not there."""
    here: Container = document
    for part in change.path[:-1]:
        child = _get(here, part, change, strict=make)
        if child is _MISSING:
            if not make:
                return None
            child = {}
            _put(here, part, child, change)
        if not isinstance(child, dict | list):
            assert not isinstance(child, _Missing)
            if make:
                raise WrongType(change.where, f"{part!r} is {_kind(child)}, not an object")
            return None
        here = child
    return here


class _Missing:
    pass


_MISSING = _Missing()


def _get(here: Container, part: str, change: Change, *, strict: bool) -> Json | _Missing:
    if isinstance(here, dict):
        return here.get(part, _MISSING)
    if not is_index(part):
        if strict:
            raise WrongType(change.where, f"{part!r} names no element of an array")
        return _MISSING
    return here[int(part)] if int(part) < len(here) else _MISSING


def _put(here: Container, part: str, value: Json, change: Change) -> None:
    if isinstance(here, dict):
        here[part] = value
        return
    if not is_index(part):
        raise WrongType(change.where, f"{part!r} names no element of an array")
    if int(part) > len(here) + MAX_PADDING:
        raise WrongType(change.where, f"{part} is far behind the array's end, {len(here)}")
    here.extend([None] * (int(part) + 1 - len(here)))
    here[int(part)] = value


def _set(document: Document, change: Change) -> None:
    parent = _parent(document, change, make=True)
    assert parent is not None
    _put(parent, change.path[-1], _copy(change.values[0]), change)


def _unset(document: Document, change: Change) -> None:
    parent, last = _parent(document, change, make=False), change.path[-1]
    if isinstance(parent, dict):
        parent.pop(last, None)
    elif parent is not None and is_index(last) and int(last) < len(parent):
        parent[int(last)] = None


def _replace(
    document: Document, change: Change, new: Callable[[Json | _Missing], Json | _Missing]
) -> None:
    """Put what `new` makes of the value that is there; _MISSING leaves everything as it is."""
    parent = _parent(document, change, make=False)
    last = change.path[-1]
    # What leads nowhere has nothing to pull from.
    strict = change.op != "$pull"
    before = _MISSING if parent is None else _get(parent, last, change, strict=strict)
    after = new(before)
    if not isinstance(after, _Missing):
        parent = _parent(document, change, make=True)
        assert parent is not None
        _put(parent, last, after, change)


def _inc(document: Document, change: Change) -> None:
    by = change.values[0]
    assert isinstance(by, Number)

    def new(before: Json | _Missing) -> Json:
        if isinstance(before, _Missing):
            return by
        if not isinstance(before, Number):
            raise WrongType(change.where, f"the value is {_kind(before)}, not a number")
        try:
            return plus(before, by)
        except SumRefused as error:
            raise WrongType(change.where, str(error)) from None

    _replace(document, change, new)


def _extreme(document: Document, change: Change) -> None:
    wanted = change.values[0]
    key = forms.order(forms.form(wanted))

    def new(before: Json | _Missing) -> Json | _Missing:
        if isinstance(before, _Missing):
            return _copy(wanted)
        there = forms.order(forms.form(before))
        better = key < there if change.op == "$min" else key > there
        return _copy(wanted) if better else _MISSING

    _replace(document, change, new)


def _push(document: Document, change: Change) -> None:
    def new(before: Json | _Missing) -> Json | _Missing:
        array = _array(before, change)
        known = [forms.form(element) for element in array] if change.op == "$addToSet" else []
        for value in change.values:
            if change.op == "$addToSet":
                form = forms.form(value)
                if form in known:
                    continue
                known.append(form)
            array.append(_copy(value))
        return array

    _replace(document, change, new)


def _pull(document: Document, change: Change) -> None:
    condition = change.condition
    assert condition is not None

    def new(before: Json | _Missing) -> Json | _Missing:
        if isinstance(before, _Missing):
            return _MISSING
        array = _array(before, change)
        return [element for element in array if not matches(forms.form(element), condition)]

    _replace(document, change, new)


def _array(before: Json | _Missing, change: Change) -> list[Json]:
    if isinstance(before, _Missing):
        return []
    if not isinstance(before, list):
        raise WrongType(change.where, f"the value is {_kind(before)}, not an array")
    return before


def _copy(value: Json) -> Json:
    """Return a value whose containers are nobody else's."""
    if isinstance(value, dict):
        return {name: _copy(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_copy(element) for element in value]
    return value


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case Number():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"


_APPLY: dict[str, Callable[[Document, Change], None]] = {
    "$set": _set,
    "$unset": _unset,
    "$inc": _inc,
    "$push": _push,
    "$addToSet": _push,
    "$pull": _pull,
    "$min": _extreme,
    "$max": _extreme,
}
