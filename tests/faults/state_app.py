"""A handler process that counts: one increment or one update for each turn, noted on either side.

Run as `python -m tests.faults.state_app`. A message is `PERSON NUMBER KIND SCOPE`; of kind `tell`
it is answered by a note of what is there. Notes are those of `tests.faults.app`.
"""

from __future__ import annotations

import json
import os
from typing import Any, cast

import capsule_client as capsule
from tests.faults.counting import SCOPES, Scope, addend, key_of, mark_of

_NOTES = os.open(os.environ["FAULTS_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

app = capsule.App("support", drain_timeout=5.0, concurrency=32)
for scope in SCOPES:
    app.collection(f"tally_{scope}", scope=scope, indexes=["n"])


def _note(what: str, **fields: Any) -> None:
    os.write(_NOTES, json.dumps({"what": what, **fields}).encode() + b"\n")


@app.message()
async def count(session: capsule.Session, message: capsule.Message) -> None:
    """Does what the message asks."""
    person, digits, kind, named = message.text.split()
    scope = cast(Scope, named)
    number, attempt = int(digits), session.attempt
    turn = {"person": person, "number": number, "attempt": attempt, "scope": scope, "kind": kind}
    if kind == "tell":
        _note("told", **turn, **await _told(session, person, number))
        return
    _note("begun", **turn)
    if kind == "value":
        added = addend(number, attempt)
        total = await session.increment(key_of(person, number), added, scope=scope)
        assert total // added % 4 == 1, "the answer has what was added, once"
    else:
        tally = session.db[f"tally_{scope}"]
        mark = mark_of(person, number, attempt)
        change = {"$inc": {"n": 1}, "$push": {"marks": mark}}
        await tally.update_one({"id": "tally"}, change, upsert=True)
    _note("done", **turn)


async def _told(session: capsule.Session, person: str, number: int) -> dict[str, Any]:
    keys = sorted({key_of(person, each) for each in range(number + 1)})
    sums = {
        # As text: a reader of the notes takes integers of this length for none.
        scope: {key: str(await session.get(key, 0, scope=scope)) for key in keys}
        for scope in SCOPES
    }
    tallies = {
        scope: await session.db[f"tally_{scope}"].find_one({"id": "tally"}) for scope in SCOPES
    }
    return {"sums": sums, "tallies": tallies}


if __name__ == "__main__":
    app.run()
