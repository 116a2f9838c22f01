"""What docs/tasks.md says of schedules runs as it stands there."""

from __future__ import annotations

import pytest

from capsule_client.testing.plugin import RunKit
from capsule_sidecar.model.cron import check_schedule
from tests.integration.test_docs import loaded
from tests.support.eventually import eventually


async def test_the_schedule_of_the_tasks_page_counts_in_the_morning(capsule_kit: RunKit) -> None:
    async with capsule_kit(loaded("docs/tasks.md", "morning")) as kit:
        ann = kit.user("ann")
        for subject in ("Renewal", "Invoice"):
            await ann.say(subject)
            assert await ann.reply() == "Noted"
        await kit.advance(days=4)  # a weekend has no eight o'clock

        async def counted() -> bool:
            await ann.say("how many?")
            return await ann.reply() == "2 were open at eight"

        await eventually(counted, timeout=15, message="the tick")


@pytest.mark.parametrize(
    "cron",
    [
        "30 2 * * *",
        "*/30 * * * *",
        "0 */6 * * *",
        "0 9-17/2 * JAN-DEC SUN-SAT",
        "0 0 L * *",
        "0 0 LW * *",
        "0 0 1,15 * MON#2",
        "0 0 * * 5L",
        "0 0 * * 7",
    ],
)
def test_the_lines_of_the_tasks_page_are_lines(cron: str) -> None:
    check_schedule(cron, "Europe/Berlin", "schedules[0]")
