"""Filters: an object of paths, values and operators, checked and made a tree of tests.

A path leads through objects, and through arrays to each of their elements; a part that is a number
also names one element. A test holds where it holds for any value that its path leads to; what an
array at the path's end holds counts as well as the array itself. `$ne`, `$nin`, `$not` and
`{"$exists": false}` are the opposite of a whole test: they hold where nothing matches.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.storage.documents import forms
from capsule_sidecar.storage.documents.forms import Form
from capsule_sidecar.storage.documents.jsons import Json, Number, parse_object

MAX_PARTS = 100
MAX_NESTING = 20
MAX_LIST = 1_000
MAX_PATH = 512
# What every document has besides what is in it.
OWN_NAMES = ("id", "create_time", "update_time")

Path = tuple[str, ...]


class Op(enum.Enum):
    """What a test asks of a value."""

    EQUAL = "$eq"
    IN = "$in"
    GREATER = "$gt"
    GREATER_EQUAL = "$gte"
    LESS = "$lt"
    LESS_EQUAL = "$lte"
    EXISTS = "$exists"
    SIZE = "$size"
    CONTAINS = "$contains"
    STARTS = "$startswith"
    ENDS = "$endswith"


@dataclass(frozen=True, slots=True)
class Test:
    """Any value at the path is as the operator has it.

    Attributes:
        path: The path's parts.
        op: The operator.
        forms: The operand's form; several for IN, none for EXISTS.
        size: For SIZE, how many.
    """

    path: Path
    op: Op
    forms: tuple[Form, ...] = ()
    size: int = 0

    @property
    def form(self) -> Form:
        """The one operand."""
        return self.forms[0]

    @property
    def text(self) -> str:
        """The one operand's key: it is a scalar."""
        assert isinstance(self.forms[0], str)
        return self.forms[0]


@dataclass(frozen=True, slots=True)
class Every:
    """All of them hold; of none, it holds."""

    of: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of them holds; of none, it does not."""

    of: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """It does not hold."""

    of: Condition


Condition = Test | Every | Some | Not
EVERYTHING = Every(())

_COMPARISONS = {"$gt", "$gte", "$lt", "$lte"}
_TEXTS = {"$startswith", "$endswith"}
OPERATORS = (
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$not", "$all", "$size",
    "$contains", "$startswith", "$endswith",
)  # fmt: skip


@dataclass
class Bounds:
    """What is left of the bounds of one request's field."""

    parts: int = MAX_PARTS
    listed: int = MAX_LIST

    def part(self, where: str) -> None:
        """Count an operator or a path."""
        self.parts -= 1
        if self.parts < 0:
            raise InvalidArgument(where, f"more than {MAX_PARTS} operators and paths")

    def values(self, count: int, where: str) -> None:
        """Count the values of a list."""
        self.listed -= count
        if self.listed < 0:
            raise InvalidArgument(where, f"more than {MAX_LIST} values in lists")


@dataclass
class Filter:
    """A checked filter.

    Attributes:
        condition: What documents must be like.
        equalities: Paths that must be equal to a value, with the places that say so: what an
            upsert begins with.
    """

    condition: Condition
    equalities: list[tuple[Path, Json, str]] = field(default_factory=list)


def parse_filter(data: bytes, where: str = "filter") -> Filter:
    """Read and check a filter.

    Args:
        data: A UTF-8 JSON object; empty for every document.
        where: The request's field; errors name the path below it, as `filter.price.$gt`.

    Raises:
        InvalidArgument: It is no filter.
    """
    if not data:
        return Filter(EVERYTHING)
    return read_filter(parse_object(data, where), where)


def read_filter(value: dict[str, Json], where: str, bounds: Bounds | None = None) -> Filter:
    """Check a filter that was read already."""
    found = Filter(EVERYTHING)
    found.condition = _Reader(bounds or Bounds(), found.equalities).whole(value, where, 1, True)
    return found


class _Reader:
    def __init__(self, bounds: Bounds, equalities: list[tuple[Path, Json, str]]) -> None:
        self._bounds = bounds
        self._equalities = equalities

    def whole(self, value: Json, where: str, depth: int, required: bool) -> Condition:
        """Read a filter; `required`: a document must match it for the whole to match."""
        if not isinstance(value, dict):
            raise InvalidArgument(where, "must be an object")
        _check_nesting(depth, where)
        parts: list[Condition] = []
        for name, operand in value.items():
            place = f"{where}.{name}"
            self._bounds.part(place)
            if name in ("$and", "$or"):
                parts.append(self._list(name, operand, place, depth, required))
            elif name.startswith("$"):
                raise InvalidArgument(
                    place,
                    "belongs to a path, as {\"path\": {\"" + name + "\": ...}}"
                    if name in OPERATORS
                    else "is no operator here; there are $and and $or",
                )  # fmt: skip
            else:
                parts.append(self._at(check_path(name, place), operand, place, depth, required))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _list(self, name: str, operand: Json, place: str, depth: int, required: bool) -> Condition:
        if not isinstance(operand, list) or not operand:
            raise InvalidArgument(place, "takes a list of filters that is not empty")
        required = required and (name == "$and" or len(operand) == 1)
        parts = tuple(
            self.whole(part, f"{place}[{n}]", depth + 1, required) for n, part in enumerate(operand)
        )
        return Every(parts) if name == "$and" else Some(parts)

    def _at(self, path: Path, operand: Json, place: str, depth: int, required: bool) -> Condition:
        if isinstance(operand, dict) and any(name.startswith("$") for name in operand):
            return self.operators(path, operand, place, depth, required)
        return self._equal(path, operand, place, required)

    def _equal(self, path: Path, operand: Json, place: str, required: bool) -> Condition:
        check_operand(operand, place)
        if required:
            self._equalities.append((path, operand, place))
        return Test(path, Op.EQUAL, (forms.form(operand),))

    def operators(
        self, path: Path, value: dict[str, Json], where: str, depth: int, required: bool
    ) -> Condition:
        """Read an object of operators, all of which a value at the path must meet."""
        parts = []
        for name, operand in value.items():
            place = f"{where}.{name}"
            self._bounds.part(place)
            if not name.startswith("$"):
                raise InvalidArgument(place, "a plain name beside operators")
            parts.append(self._operator(path, name, operand, place, depth, required))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _operator(
        self, path: Path, name: str, operand: Json, place: str, depth: int, required: bool
    ) -> Condition:
        match name:
            case "$eq":
                return self._equal(path, operand, place, required)
            case "$ne":
                return Not(self._equal(path, operand, place, False))
            case "$not":
                if not isinstance(operand, dict) or not operand:
                    raise InvalidArgument(place, "takes an object of operators")
                _check_nesting(depth + 1, place)
                return Not(self.operators(path, operand, place, depth + 1, False))
            case "$in" | "$nin" | "$all":
                return self._of_list(path, name, operand, place)
            case "$exists":
                if not isinstance(operand, bool):
                    raise InvalidArgument(place, "takes true or false")
                found = Test(path, Op.EXISTS)
                return found if operand else Not(found)
            case "$size":
                if (
                    not isinstance(operand, Number)
                    or not 0 <= operand.value < 1 << 31
                    or operand.value != int(operand.value)
                ):
                    raise InvalidArgument(place, "takes an integer from 0 to 2147483647")
                return Test(path, Op.SIZE, size=int(operand.value))
            case "$contains":
                check_operand(operand, place)
                return Test(path, Op.CONTAINS, (forms.form(operand),))
        return self._of_scalar(path, name, operand, place)

    def _of_list(self, path: Path, name: str, operand: Json, place: str) -> Condition:
        if not isinstance(operand, list):
            raise InvalidArgument(place, "takes a list of values")
        self._bounds.values(len(operand), place)
        for n, element in enumerate(operand):
            check_operand(element, f"{place}[{n}]")
            if name == "$all":
                self._bounds.part(f"{place}[{n}]")  # each is a test of its own
        found = tuple(forms.form(element) for element in operand)
        if name == "$all":
            every = tuple(Test(path, Op.EQUAL, (each,)) for each in found)
            return Every(every) if every else Some(())
        one = Test(path, Op.IN, found) if found else Some(())
        return one if name == "$in" else Not(one)

    def _of_scalar(self, path: Path, name: str, operand: Json, place: str) -> Condition:
        if name in _COMPARISONS:
            if isinstance(operand, dict | list):
                raise InvalidArgument(
                    place, "takes a number, a string, true, false or null: no object or array"
                )
        elif name in _TEXTS:
            if not isinstance(operand, str):
                raise InvalidArgument(place, "takes a string")
        else:
            raise InvalidArgument(place, f"is no operator; there are {', '.join(OPERATORS)}")
        return Test(path, Op(name), (forms.form(operand),))


def read_operators(path: Path, value: dict[str, Json], where: str, bounds: Bounds) -> Condition:
    """Check an object of operators of a value at a path."""
    return _Reader(bounds, []).operators(path, value, where, 1, False)


def check_path(text: str, place: str) -> Path:
    """Return a dotted path's parts.

    Raises:
        InvalidArgument: A part is empty or begins with `$`, or they are too many or too long.
    """
    parts = tuple(text.split("."))
    if not all(parts):
        raise InvalidArgument(place, "a path's parts, between dots, are not empty")
    if any(part.startswith("$") for part in parts):
        raise InvalidArgument(place, "no part of a path begins with $")
    if len(parts) > MAX_NESTING:
        raise InvalidArgument(place, f"a path has at most {MAX_NESTING} parts")
    if len(text) > MAX_PATH:
        raise InvalidArgument(place, f"a path has at most {MAX_PATH} characters")
    return parts


def check_names(value: Json, place: str) -> None:
    """Check the names within a value that is stored.

    Raises:
        InvalidArgument: One has a dot or begins with `$`.
    """
    for name, where in _names(value, place):
        if name.startswith("$"):
            raise InvalidArgument(where, "a name within a value does not begin with $")
        if "." in name:
            raise InvalidArgument(where, "a name within a value has no dot")


def check_operand(value: Json, place: str) -> None:
    """Check a value that others are compared with: a `$` in it was meant as an operator.

    Raises:
        InvalidArgument: A name within it begins with `$`.
    """
    for name, where in _names(value, place):
        if name.startswith("$"):
            raise InvalidArgument(where, "an operator cannot stand within a value")


def _names(value: Json, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield name, f"{place}.{name}"
            yield from _names(member, f"{place}.{name}")
    elif isinstance(value, list):
        for n, element in enumerate(value):
            yield from _names(element, f"{place}[{n}]")


def _check_nesting(depth: int, where: str) -> None:
    if depth > MAX_NESTING:
        raise InvalidArgument(where, f"filters are nested at most {MAX_NESTING} deep")
