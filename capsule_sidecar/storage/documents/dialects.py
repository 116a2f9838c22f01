"""How SQLite and PostgreSQL look into a form: what they do not say alike."""

from __future__ import annotations

from collections.abc import Sequence

from capsule_sidecar.storage.documents import forms
from capsule_sidecar.storage.documents.forms import Form
from capsule_sidecar.storage.documents.matching import is_index
from capsule_sidecar.storage.documents.sql import TRUE, Dialect, Node, Sql, fill


class _SQLite(Dialect):
    scalar = "text"

    def member(self, name: str) -> Node:
        return self._node("d.form", name)

    def _node(self, json: str, name: str, guard: str = "") -> Node:
        kind, value = f"json_type({json}, ?)", f"json_extract({json}, ?)"
        if guard:
            kind, value = (f"CASE WHEN {guard} THEN {each} END" for each in (kind, value))
        found = Sql(f"({value})", (_member_path(name),))
        return Node(Sql(f"({kind})", found.values), found, found)

    def step(self, node: Node, part: str, alias: str) -> tuple[Sql, Sql, Node]:
        array = node.json
        if is_index(part):
            # What the part names as an element is put in as an object of its own.
            place = Sql("?", (f"$[{part}]",))
            array = fill(
                "CASE WHEN json_type({}, {}) IS NULL THEN {} ELSE"
                " json_insert({}, '$[#]', json_object(?, json_extract({}, {}))) END",
                node.json, place, node.json,
                node.json._replace(values=(*node.json.values, forms.name(part))), node.json, place,
            )  # fmt: skip
        source = fill(
            "json_each(CASE {} WHEN 'array' THEN {} WHEN 'object' THEN '[' || {} || ']'"
            f" ELSE '[{{{{}}}}]' END) AS {alias}",
            node.type, array, node.json,
        )  # fmt: skip
        inside = f"{alias}.type = 'object'"
        return source, Sql(inside), self._node(f"{alias}.value", forms.name(part), inside)

    def elements(self, node: Node, alias: str, *, whole: bool = False) -> tuple[Sql, Node]:
        other = (
            "WHEN 'object' THEN '[' || {} || ']' WHEN 'text' THEN json_array({})" if whole else ""
        )
        source = fill(
            f"json_each(CASE {{}} WHEN 'array' THEN {{}} {other} ELSE '[]' END) AS {alias}",
            node.type, *[node.json] * (3 if whole else 1),
        )  # fmt: skip
        value = Sql(f"{alias}.value")
        return source, Node(Sql(f"{alias}.type"), value, value)

    def is_container(self, node: Node, wanted: Sequence[Form]) -> Sql:
        marks = ", ".join("?" * len(wanted))
        return fill(f"{{}} IN ({marks})", node.json, Sql("", (*map(forms.render, wanted),)))

    def length(self, node: Node) -> Sql:
        return fill("CASE {} WHEN 'array' THEN json_array_length({}) END", node.type, node.json)

    def collated(self, text: Sql) -> Sql:
        return text

    def ends(self, text: Sql, end: str) -> Sql:
        if not end:
            return TRUE
        # The type's digit is no part of the string.
        return fill(
            "(length({}) > ? AND substr({}, ?) = ?)",
            text._replace(values=(*text.values, len(end))),
            text._replace(values=(*text.values, -len(end), end)),
        )

    def contains(self, text: Sql, part: str) -> Sql:
        return fill("instr(substr({}, 2), ?) > 0", text._replace(values=(*text.values, part)))


class _PostgreSQL(Dialect):
    scalar = "string"

    def member(self, name: str) -> Node:
        return self._node("d.form", name)

    def _node(self, json: str, name: str) -> Node:
        return self._of(Sql(f"({json} -> ?::text)", (name,)))

    def _of(self, found: Sql) -> Node:
        return Node(
            fill("jsonb_typeof({})", found), found,
            fill("(({} #>> ARRAY[]::text[]) COLLATE \"C\")", found),
        )  # fmt: skip

    def step(self, node: Node, part: str, alias: str) -> tuple[Sql, Sql, Node]:
        array = node.json
        if is_index(part):
            element = fill("({} -> ?::int)", node.json)
            element = element._replace(values=(*element.values, int(part)))
            array = fill(
                "CASE WHEN {} IS NULL THEN {} ELSE"
                " {} || jsonb_build_array(jsonb_build_object(?::text, {})) END",
                element, node.json,
                node.json._replace(values=(*node.json.values, forms.name(part))), element,
            )  # fmt: skip
        source = fill(
            "jsonb_array_elements(CASE {} WHEN 'array' THEN {} WHEN 'object' THEN"
            f" jsonb_build_array({{}}) ELSE '[{{{{}}}}]'::jsonb END) AS {alias}(value)",
            node.type, array, node.json,
        )  # fmt: skip
        inside = Sql(f"jsonb_typeof({alias}.value) = 'object'")
        return source, inside, self._node(f"{alias}.value", forms.name(part))

    def elements(self, node: Node, alias: str, *, whole: bool = False) -> tuple[Sql, Node]:
        other = "WHEN 'object' THEN jsonb_build_array({}) WHEN 'string' THEN jsonb_build_array({})"
        source = fill(
            f"jsonb_array_elements(CASE {{}} WHEN 'array' THEN {{}} {other if whole else ''}"
            f" ELSE '[]'::jsonb END) AS {alias}(value)",
            node.type, *[node.json] * (3 if whole else 1),
        )  # fmt: skip
        return source, self._of(Sql(f"{alias}.value"))

    def is_container(self, node: Node, wanted: Sequence[Form]) -> Sql:
        marks = ", ".join(["?::jsonb"] * len(wanted))
        return fill(f"{{}} IN ({marks})", node.json, Sql("", (*map(forms.render, wanted),)))

    def length(self, node: Node) -> Sql:
        return fill("CASE {} WHEN 'array' THEN jsonb_array_length({}) END", node.type, node.json)

    def collated(self, text: Sql) -> Sql:
        return fill('({} COLLATE "C")', text)

    def ends(self, text: Sql, end: str) -> Sql:
        if not end:
            return TRUE
        return fill(
            "(length({}) > ? AND right({}, ?) = ?)",
            text._replace(values=(*text.values, len(end))),
            text._replace(values=(*text.values, len(end), end)),
        )

    def contains(self, text: Sql, part: str) -> Sql:
        return fill("strpos(substr({}, 2), ?) > 0", text._replace(values=(*text.values, part)))


def _member_path(name: str) -> str:
    return f'$."{name}"'


_SQLITE, _POSTGRESQL = _SQLite(), _PostgreSQL()


def dialect(name: str) -> Dialect:
    """Return the dialect of a database by its name."""
    return _SQLITE if name == "sqlite" else _POSTGRESQL
