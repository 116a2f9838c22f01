"""`python -m tests.bench [ROW ...] [--short] [--floors]`: measure, print, write build/bench.json.

Also reads BENCH (rows, by spaces or commas) and BENCH_SHORT from the environment, for `make`.
Exits 1 when a row could not be measured; a figure that is missed is printed, never an error.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from tests.bench import (
    harness,
    rows_collections,
    rows_data,
    rows_deltas,
    rows_fanout,
    rows_prompts,
    rows_reply,
    rows_sse,
    rows_start,
    rows_storage,
    rows_tasks,
)
from tests.bench.harness import Line, Settings
from tests.bench.processes import ROOT, BenchError
from tests.bench.rows_turns import turns

ROWS: dict[str, Callable[[Settings], list[Line]]] = {
    "reply": rows_reply.reply,
    "reply-alone": rows_reply.reply_alone,
    "reply-rate": rows_reply.reply_rate,
    "turns": turns,
    "deltas": rows_deltas.deltas,
    "delta-latency": rows_deltas.delta_latency,
    "delta-cpu": rows_deltas.delta_cpu,
    "fan-out": rows_fanout.fan_out,
    "sse": rows_sse.sse,
    "sse-shared": rows_sse.sse_shared,
    "sse-first": rows_sse.sse_first,
    "sse-idle": rows_sse.sse_idle,
    "sse-fan-out": rows_sse.sse_fan_out,
    "tasks": rows_tasks.tasks,
    "data": rows_data.data,
    "collections": rows_collections.collections,
    "collections-postgresql": rows_collections.collections_postgresql,
    "open-session": rows_storage.open_session,
    "appends": rows_storage.appends,
    "prompts": rows_prompts.prompts,
    "import": rows_start.imports,
    "start": rows_start.start,
}


def main() -> int:
    """Measures the rows that were asked for, one after the other."""
    wanted = os.environ.get("BENCH", "").replace(",", " ").split()
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--floors", action="store_true", help="without the sidecar")
    options = parser.parse_args()
    names = options.rows or wanted or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")
    settings = Settings(
        short=options.short or os.environ.get("BENCH_SHORT", "") not in ("", "0"),
        floors_only=options.floors,
    )

    print("  ".join(f"{name} {value}" for name, value in harness.versions().items()))
    print("median (range over rounds); the ratio is of figures measured one after the other")
    measured: dict[str, list[Line]] = {}
    failed = False
    for name in names:
        start = time.perf_counter()
        try:
            measured[name] = ROWS[name](settings)
        except BenchError as error:
            failed = True
            print(f"\n{name}: NOT MEASURED\n{error}")
            continue
        harness.show(f"{name} ({time.perf_counter() - start:.0f} s)", measured[name])
    harness.save(ROOT / "build" / "bench.json", measured, settings)
    lines = [line for row in measured.values() for line in row]
    held = [line for line in lines if line.met is not None]
    print(f"\n{sum(bool(line.met) for line in held)} of {len(held)} met")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
