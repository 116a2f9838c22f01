"""Declared indexes: keys of a path in each document, kept beside the documents.

Not indexes of the database's own over expressions: those hold one key a document, where an array
needs one for each of its elements; each would be looked at by every write of every app's documents,
since one table has them all; and each is a change of the schema while the sidecar runs. Here a
declaration is a row, what it costs falls on its own collection, and both databases do the same.

While no document has had an array on the path, or an object at its end, each has exactly one key
that also sorts: such an index gives the order, and several bounds at once. From the first on
(`multikey`) it gives candidates for one bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded
from capsule_sidecar.storage.documents.filters import OWN_NAMES, Path, check_path
from capsule_sidecar.storage.documents.forms import Form
from capsule_sidecar.storage.documents.matching import index_keys
from capsule_sidecar.storage.documents.rows import fetch, form_of
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.scopes import Place, Scope
from capsule_sidecar.storage.unit import Unit

MAX_INDEXES = 20
_BUILT = -1
# Documents that a step of building looks at: it holds the writer for some milliseconds.
_STEP = 500

_KNOWN = (
    "SELECT id, path, multikey, built FROM document_indexes"
    " WHERE app = ? AND scope = ? AND collection = ? ORDER BY id"
)
_ADD = 'INSERT INTO document_keys ("index", holder, key, document) VALUES (?, ?, ?, ?)'
_ADD_ANEW = f"{_ADD} ON CONFLICT DO NOTHING"
_REMOVE = 'DELETE FROM document_keys WHERE "index" = ? AND holder = ? AND key = ? AND document = ?'


@dataclass(frozen=True, slots=True)
class Index:
    """A declared index.

    Attributes:
        id: Its number.
        path: What it is over.
        multikey: A document has or had an array on the path, or an object at its end.
        ready: Every document has its keys.
    """

    id: int
    path: Path
    multikey: bool
    ready: bool


def _index(row: Sequence[object]) -> Index:
    number, path, multikey, built = row
    assert isinstance(number, int)
    return Index(number, tuple(str(path).split(".")), bool(multikey), built == _BUILT)


def of_writer(unit: Unit, place: Place, collection: str) -> list[Index]:
    """Return a collection's indexes, those too that are being built."""
    return [*map(_index, unit.fetch(_KNOWN, (place.app, int(place.scope), collection)))]


def of_reader(connection: Connection, place: Place, collection: str) -> list[Index]:
    """Return a collection's indexes that can be used."""
    rows = fetch(connection, _KNOWN, (place.app, int(place.scope), collection))
    return [index for index in map(_index, rows) if index.ready]


# -- keeping -----------------------------------------------------------------------------------

Changed = tuple[int, Form | None, Form | None]


def keep(unit: Unit, place: Place, indexes: Iterable[Index], changed: Sequence[Changed]) -> None:
    """Let the keys of documents be what their forms are now.

    Args:
        unit: The group's unit.
        place: Where the documents lie.
        indexes: The collection's.
        changed: Of each document its number, its form before (None: it is new) and now (None: it
            is gone).
    """
    for index in indexes:
        added: list[tuple[object, ...]] = []
        removed: list[tuple[object, ...]] = []
        crossed = False
        for document, before, now in changed:
            old = index_keys(before, index.path)[0] if before is not None else set()
            new, array = index_keys(now, index.path) if now is not None else (set(), False)
            crossed = crossed or array
            added += [(index.id, place.holder, key, document) for key in new - old]
            removed += [(index.id, place.holder, key, document) for key in old - new]
        unit.write(_REMOVE, removed)
        # An index that is being built has some documents' keys already.
        unit.write(_ADD if index.ready else _ADD_ANEW, added)
        if crossed and not index.multikey:
            unit.write("UPDATE document_indexes SET multikey = 1 WHERE id = ?", [(index.id,)])


# -- declaring ---------------------------------------------------------------------------------


def check_index(path: str, where: str) -> str:
    """Return a path that can be indexed.

    Raises:
        InvalidArgument: It is no path, or one that needs no index.
    """
    if check_path(path, where)[0] == OWN_NAMES[0]:
        raise InvalidArgument(where, "ids are indexed already")
    return path


def declare(unit: Unit, app: int, collection: str, scope: Scope, paths: Sequence[str]) -> list[int]:
    """Make a collection's indexes of those paths that have none yet; others stay.

    Args:
        unit: The group's unit.
        app: The app's number.
        collection: The collection.
        scope: Whose documents.
        paths: Dotted paths.

    Returns:
        The numbers of those that are to be built: `build` is called for each until it is done.

    Raises:
        InvalidArgument: A path is none.
        LimitExceeded: There would be more than 20.
    """
    for n, path in enumerate(paths):
        check_index(path, f"indexes[{n}]")
    place = (app, int(scope), collection)
    known = {row[1]: (row[0], row[3]) for row in unit.fetch(_KNOWN, place)}
    missing = [path for path in dict.fromkeys(paths) if path not in known]
    if len(known) + len(missing) > MAX_INDEXES:
        raise LimitExceeded(
            "indexes", MAX_INDEXES, f"collection {collection!r} would have more indexes"
        )
    made = [(unit.number("document_indexes"), *place, path, 0, 0) for path in missing]
    unit.write(
        "INSERT INTO document_indexes (id, app, scope, collection, path, multikey, built)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        made,
    )
    unfinished = [number for number, built in known.values() if built != _BUILT]
    return unfinished + [row[0] for row in made]


def build(unit: Unit, number: int) -> bool:
    """Give some more documents their keys; tell whether all have them now.

    Others write meanwhile: what they write has its keys.
    """
    rows = unit.fetch(
        "SELECT app, scope, collection, path, multikey, built FROM document_indexes WHERE id = ?",
        (number,),
    )
    if not rows or rows[0][5] == _BUILT:
        return True
    app, scope, collection, path, multikey, built = rows[0]
    index = Index(number, tuple(path.split(".")), bool(multikey), ready=False)
    # Documents of every collection are passed over in the order of their numbers: a step's cost is
    # bounded whosever they are.
    last = unit.fetch(
        "SELECT max(id) FROM (SELECT id FROM documents WHERE id > ? ORDER BY id LIMIT ?) AS step",
        (built, _STEP),
    )[0][0]
    if last is not None:
        found = unit.fetch(
            "SELECT id, holder, form FROM documents WHERE id > ? AND id <= ? AND app = ?"
            " AND scope = ? AND collection = ?",
            (built, last, app, scope, collection),
        )
        for document, holder, form in found:
            place = Place(app, Scope(scope), holder)
            keep(unit, place, [index], [(document, None, form_of(form))])
    unit.write(
        "UPDATE document_indexes SET built = ? WHERE id = ?",
        [(_BUILT if last is None else last, number)],
    )
    return last is None


def drop_holder(unit: Unit, app: int, scope: Scope, holder: str) -> None:
    """Remove all keys of a holder whose documents are removed."""
    rows = unit.fetch(
        "SELECT id FROM document_indexes WHERE app = ? AND scope = ?", (app, int(scope))
    )
    unit.write(
        'DELETE FROM document_keys WHERE "index" = ? AND holder = ?',
        [(row[0], holder) for row in rows],
    )


async def ensure(
    journal: Journal, app: int, collection: str, scope: Scope, paths: Sequence[str]
) -> None:
    """Declare a collection's indexes and build those that are new, step by step among other work.

    Returns when they are used; a sidecar that ends meanwhile goes on when they are declared again.

    Raises:
        DomainError: As `declare`.
    """
    unfinished = await journal.submit(
        app, lambda unit: declare(unit, app, collection, scope, paths)
    )
    for number in unfinished:
        while not await journal.submit(app, partial(build, number=number)):
            pass
