"""The tasks of the page about tasks, as a reader would try them."""

from __future__ import annotations

from capsule_client.testing.plugin import RunKit
from tests.integration.test_docs import loaded


async def test_the_importer_of_the_tasks_page_imports(capsule_kit: RunKit) -> None:
    async with capsule_kit(loaded("docs/tasks.md", "tasks")) as kit:
        ann = kit.user("ann")

        def card() -> dict[str, object]:
            return dict(ann.blocks[-1].payload) if ann.blocks else {"status": ""}

        await ann.say("import books")
        await kit.eventually(lambda: card()["status"] == "completed")
        assert card()["message"] == "Importing books"
        assert card()["result"] == {"imported": 40}
        await ann.say("wait films")
        assert await ann.reply() == "2 rows"
        await ann.say("import flaky")
        # That it waits to be tried again may be over before it is seen: the clock goes on, too.
        await kit.eventually(lambda: len(ann.blocks) == 2 and card().get("failures") == 1)
        await kit.advance(seconds=2)
        await kit.eventually(lambda: card()["status"] == "completed")
        await ann.say("later music")
        assert await ann.reply() == "In an hour and a half."
        await ann.say("how many?")
        assert await ann.reply() == "3 imports are done"
        await kit.advance(hours=2)

        async def done() -> bool:
            await ann.say("how many?")
            return await ann.reply() == "4 imports are done"

        await kit.eventually(done)
        await ann.say("cancel")
        assert await ann.reply() == "0 cancelled"
