"""The floor of data requests: the same answer from a bare Starlette endpoint, in one process."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.bench import worker
from tests.bench.texts import data_answer
from tests.bench.web import serve


async def rows(request: Request) -> JSONResponse:
    """Answers as `app.py` does."""
    return JSONResponse(data_answer(int(request.query_params.get("count", "10"))))


async def main() -> None:
    async with serve(Starlette(routes=[Route("/data/rows", rows)])) as http:
        await worker.serve({}, target=http)


if __name__ == "__main__":
    worker.run(main)
