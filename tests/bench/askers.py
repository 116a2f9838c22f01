"""Those who ask for data over HTTP, on connections that stay open."""

from __future__ import annotations

from tests.bench import worker
from tests.bench.http_link import Link


async def ask(target: str, path: str, in_flight: int, count: int) -> dict[str, float]:
    """Asks `count` times, `in_flight` at a time."""
    free = [Link(target) for _ in range(in_flight)]

    async def one() -> None:
        link = free.pop()
        await link.ask("GET", path)
        free.append(link)

    try:
        return await worker.closed_loop(one, in_flight=in_flight, count=count)
    finally:
        for link in free:
            link.close()


async def main() -> None:
    await worker.serve({"ask": ask})


if __name__ == "__main__":
    worker.run(main)
