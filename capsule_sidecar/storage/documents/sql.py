"""Conditions as SQL over forms, for either database.

Texts are made of the fixed pieces below, and all that comes from a request is bound: operands,
names and paths alike. They are texts rather than SQLAlchemy's expressions because a filter is a
different one each time: building and compiling it would cost several times its execution. Marks are
`?`; whoever executes a text gives it the driver's own.

A path is walked one part after the other, in the lateral join that each database has: what an
array holds is listed, an object stands for itself, and anything else for an object without members.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from capsule_sidecar.storage.documents import forms
from capsule_sidecar.storage.documents.filters import Condition, Every, Not, Op, Path, Some, Test
from capsule_sidecar.storage.documents.forms import Form

ID: Path = ("id",)


class Sql(NamedTuple):
    """A text, and what is bound to its marks in their order."""

    text: str
    values: tuple[object, ...] = ()


FALSE, TRUE = Sql("1 = 0"), Sql("1 = 1")


def fill(template: str, *parts: Sql) -> Sql:
    """Return a template whose `{}` are replaced by parts."""
    return Sql(
        template.format(*(part.text for part in parts)),
        tuple(value for part in parts for value in part.values),
    )


def joined(mark: str, parts: Iterable[Sql]) -> Sql:
    """Return parts with a mark between them."""
    found = list(parts)
    return Sql(
        mark.join(part.text for part in found),
        tuple(value for part in found for value in part.values),
    )


class Node(NamedTuple):
    """A value in a form, as expressions.

    Attributes:
        type: Its JSON type; NULL: it is not there.
        json: It as JSON, where it is an object or array.
        text: Its key, where it is a scalar.
    """

    type: Sql
    json: Sql
    text: Sql


class Dialect(ABC):
    """How a database looks into a form."""

    # The JSON type of a scalar.
    scalar: str

    @abstractmethod
    def member(self, name: str) -> Node:
        """Return a member of the document's form."""

    @abstractmethod
    def step(self, node: Node, part: str, alias: str) -> tuple[Sql, Sql, Node]:
        """Return a row source, the condition on its rows, and the node that each of them has."""

    @abstractmethod
    def elements(self, node: Node, alias: str, *, whole: bool = False) -> tuple[Sql, Node]:
        """Return a row source of an array's elements, and the node that each of them has.

        Of anything else there are none; `whole`: there is it itself.
        """

    @abstractmethod
    def is_container(self, node: Node, wanted: Sequence[Form]) -> Sql:
        """Return whether a node equals one of some objects or arrays.

        A list, not a chain of comparisons: that could be deeper than SQLite goes.
        """

    @abstractmethod
    def length(self, node: Node) -> Sql:
        """Return how many elements a node has; NULL where it is no array."""

    @abstractmethod
    def collated(self, text: Sql) -> Sql:
        """Return a text that compares by code point."""

    @abstractmethod
    def ends(self, text: Sql, end: str) -> Sql:
        """Return whether a text ends so."""

    @abstractmethod
    def contains(self, text: Sql, part: str) -> Sql:
        """Return whether a text has such a part."""

    # -- conditions ----------------------------------------------------------------------------

    def where(self, condition: Condition) -> Sql:
        """Return a condition; it may be NULL in place of false."""
        match condition:
            case Test():
                return self._test(condition)
            case Every():
                # Of what a query begins with, nothing is left to look at.
                rest = [each for part in condition.of if (each := self.where(part)) is not TRUE]
                return _group(" AND ", rest, TRUE)
            case Some():
                return _group(" OR ", [self.where(part) for part in condition.of], FALSE)
            case Not():
                return fill("({}) IS NOT TRUE", self.where(condition.of))

    def _test(self, test: Test) -> Sql:
        named = _ids(test)
        if named is not None:
            return fill(f"d.key IN ({_marks(named)})", Sql("", tuple(named)))
        node, sources, rows = self._walk(test.path)
        leaf = self._leaf(node, test)
        if not sources:
            return fill("({})", leaf)
        return fill(
            "EXISTS (SELECT 1 FROM {} WHERE {} AND ({}))",
            joined(", ", sources), joined(" AND ", rows), leaf,
        )  # fmt: skip

    def _walk(self, path: Path) -> tuple[Node, list[Sql], list[Sql]]:
        node = self.member(forms.name(path[0]))
        sources, rows = [], []
        for number, part in enumerate(path[1:], 1):
            source, row, node = self.step(node, part, f"e{number}")
            sources.append(source)
            rows.append(row)
        return node, sources, rows

    def _leaf(self, node: Node, test: Test) -> Sql:
        """Return whether a node, or what it holds as an array, is as a test has it."""
        match test.op:
            case Op.EXISTS:
                return fill("{} IS NOT NULL", node.type)
            case Op.SIZE:
                return fill("{} = ?", self.length(node), Sql("", (test.size,)))
        source, element = self.elements(node, "m")
        within = (
            self._is(element, Test(test.path, Op.EQUAL, test.forms))
            if test.op is Op.CONTAINS
            else self._is(element, test)
        )
        found = fill(
            "{} OR EXISTS (SELECT 1 FROM {} WHERE {})", self._is(node, test), source, within
        )
        return fill("{} OR {} IS NULL", found, node.type) if _takes_missing(test) else found

    def _is(self, node: Node, test: Test) -> Sql:
        """Return whether one value is as a test has it."""
        if test.op in (Op.EQUAL, Op.IN):
            return self._equals(node, test.forms)
        if not isinstance(test.form, str):
            return FALSE  # only `$contains` takes others: nothing but an array holds those
        text, operand = node.text, test.text
        match test.op:
            case Op.ENDS | Op.CONTAINS:
                if operand[0] != forms.STRING:
                    return FALSE
                found = self.ends if test.op is Op.ENDS else self.contains
                return fill(
                    "({} AND {})", self._between(text, *_span(forms.STRING)),
                    found(text, operand[1:]),
                )  # fmt: skip
        bounds = key_range(test)
        if bounds is None:
            return FALSE
        return self._between(text, *bounds)

    def _between(self, text: Sql, low: str, strict: bool, high: str, closed: bool) -> Sql:
        return fill(
            f"({{}} {'>' if strict else '>='} ? AND {{}} {'<=' if closed else '<'} ?)",
            text._replace(values=(*text.values, low)), text._replace(values=(*text.values, high)),
        )  # fmt: skip

    def _equals(self, node: Node, wanted: Sequence[Form]) -> Sql:
        scalars = [form for form in wanted if isinstance(form, str)]
        others = [form for form in wanted if not isinstance(form, str)]
        parts = []
        if scalars:
            parts.append(fill(f"{{}} IN ({_marks(scalars)})", node.text, Sql("", (*scalars,))))
        if others:
            parts.append(self.is_container(node, others))
        return parts[0] if len(parts) == 1 else fill("({})", joined(" OR ", parts))

    # -- order ---------------------------------------------------------------------------------

    def sort_key(self, path: Path, *, descending: bool) -> Sql:
        """Return what a document sorts by: the least key at a path, or the greatest."""
        pick = "max" if descending else "min"
        node, sources, rows = self._walk(path)
        source, element = self.elements(node, "m")
        one = fill(
            f"CASE {{}} WHEN 'array' THEN coalesce((SELECT {pick}({{}}) FROM {{}}),"
            f" '{forms.EMPTY}') ELSE {{}} END",
            node.type, self._key(element), source, self._key(node),
        )  # fmt: skip
        if sources:
            one = fill(
                f"coalesce((SELECT {pick}({{}}) FROM {{}} WHERE {{}}), '{forms.NULL}')",
                one, joined(", ", sources), joined(" AND ", rows),
            )  # fmt: skip
        return self.collated(one)

    def _key(self, node: Node) -> Sql:
        return self.collated(
            fill(
                f"(CASE {{}} WHEN '{self.scalar}' THEN substr({{}}, 1, {forms.KEY_CHARS})"
                f" WHEN 'object' THEN '{forms.OBJECT}' WHEN 'array' THEN '{forms.ARRAY}'"
                f" ELSE '{forms.NULL}' END)",
                node.type, node.text,
            )
        )  # fmt: skip

    # -- values --------------------------------------------------------------------------------

    def values_at(self, path: Path) -> tuple[Sql, Sql, Sql]:
        """Return row sources of the values at a path, a condition, and each value's text.

        An array's elements stand for it.
        """
        node, sources, rows = self._walk(path)
        source, element = self.elements(node, "m", whole=True)
        return joined(", ", [*sources, source]), joined(" AND ", [*rows, TRUE]), element.text


def _group(mark: str, parts: Sequence[Sql], empty: Sql) -> Sql:
    return fill("({})", joined(mark, parts)) if parts else empty


def key_range(test: Test) -> tuple[str, bool, str, bool] | None:
    """Return the range of keys that a comparison means: low, whether strictly, high, and closed.

    Returns:
        None where no key is meant.
    """
    operand = test.text
    low, _, high, _ = _span(operand[0])
    if operand == forms.NULL:
        equal = test.op in (Op.GREATER_EQUAL, Op.LESS_EQUAL)
        return (operand, False, operand, True) if equal else None
    match test.op:
        case Op.GREATER | Op.GREATER_EQUAL:
            return operand, test.op is Op.GREATER, high, False
        case Op.LESS | Op.LESS_EQUAL:
            return low, False, operand, test.op is Op.LESS_EQUAL
        case Op.STARTS:
            return operand, False, forms.after(operand), False
    raise AssertionError(test.op)


def has_range(test: Test) -> bool:
    """Tell whether a comparison means any key: whether `key_range` returns a range."""
    return test.form != forms.NULL or test.op in (Op.GREATER_EQUAL, Op.LESS_EQUAL)


def _span(tag: str) -> tuple[str, bool, str, bool]:
    return tag, False, chr(ord(tag) + 1), False


def _takes_missing(test: Test) -> bool:
    """Tell whether a value that is not there matches: as null does."""
    if test.op in (Op.EQUAL, Op.IN, Op.GREATER_EQUAL, Op.LESS_EQUAL):
        return forms.NULL in test.forms
    return False


def _ids(test: Test) -> list[str] | None:
    """Return the ids that a test asks for; None where it asks for something else."""
    if test.path != ID or test.op not in (Op.EQUAL, Op.IN):
        return None
    found = [form for form in test.forms if isinstance(form, str) and form[0] == forms.STRING]
    values = [forms.value_of(form) for form in found]
    # What no id can be would trouble the driver.
    return [value for value in values if isinstance(value, str) and "\0" not in value]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values)) if values else "NULL"
