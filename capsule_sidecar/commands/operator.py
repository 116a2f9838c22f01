"""The operator's part of the command line: `apps`, `sessions`, `work`.

What a command does is imported when it runs: the command line as a whole starts without it.
"""

from __future__ import annotations

import enum
import os
from typing import Annotated

import typer

_MOST = 100_000


class Status(enum.StrEnum):
    """An invocation's status, as the protocol numbers them."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    UNHANDLED = "unhandled"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def number(self) -> int:
        """Its number in the protocol."""
        return list(Status).index(self) + 1


class Kind(enum.StrEnum):
    """An invocation's kind; those that are never queued are left out."""

    MESSAGE = "message"
    ACTION = "action"
    ENTER = "enter"
    EXIT = "exit"
    TASK = "task"
    SCHEDULE = "schedule"

    @property
    def number(self) -> int:
        """Its number in the protocol."""
        # 5 and 6 are requests, which live in memory alone.
        index = list(Kind).index(self) + 1
        return index if index < 5 else index + 2


AppName = Annotated[str, typer.Argument(help="The app's name.", metavar="APP")]
Address = Annotated[
    str | None,
    typer.Option(help="Where the sidecar is. Default: CAPSULE_ADDRESS or 127.0.0.1:7400"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Limit = Annotated[int, typer.Option(min=1, max=_MOST, help="How many to show.")]

sessions = typer.Typer(help="Look at the sessions of an app.", invoke_without_command=True)
work = typer.Typer(
    help="Look at what an app has done and has to do, and do again what failed.",
    invoke_without_command=True,
)


@sessions.callback()
@work.callback()
def _there_is(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def apps(address: Address = None, json: Json = False) -> None:
    """List the apps, the processes of each and what they handle."""
    _quiet()
    from capsule_sidecar.commands import admin

    form = admin.Form(address, json)
    raise typer.Exit(admin.ask(form, lambda link: admin.list_apps(link, form)))


@sessions.command("list")
def list_sessions(
    app: AppName,
    user: Annotated[
        str, typer.Option(help="Only of this user: an id, or an identity as terminal:ann.")
    ] = "",
    limit: Limit = 50,
    address: Address = None,
    json: Json = False,
) -> None:
    """List an app's sessions, the newest first."""
    _quiet()
    from capsule_sidecar.commands import admin

    form = admin.Form(address, json)
    raise typer.Exit(
        admin.ask(form, lambda link: admin.list_sessions(link, form, app, user, limit))
    )


@sessions.command("show")
def show_session(
    app: AppName,
    session: Annotated[str, typer.Argument(help="The session's id.", metavar="SESSION")],
    events: Annotated[
        int, typer.Option(min=1, max=200, help="How many of its newest events to show.")
    ] = 20,
    address: Address = None,
    json: Json = False,
) -> None:
    """Show a session: whose it is, its data, and the end of its log."""
    _quiet()
    from capsule_sidecar.commands import admin

    form = admin.Form(address, json)
    raise typer.Exit(
        admin.ask(form, lambda link: admin.show_session(link, form, app, session, events))
    )


@work.command("list")
def list_work(
    app: AppName,
    status: Annotated[Status | None, typer.Option(help="Only with this status.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    session: Annotated[str, typer.Option(help="Only of this session.")] = "",
    reference: Annotated[
        str, typer.Option(help="What failed with this reference, as a user quotes it.")
    ] = "",
    retried: Annotated[
        bool,
        typer.Option("--retried", help="With a status of what failed: also what was done again."),
    ] = False,
    limit: Limit = 50,
    address: Address = None,
    json: Json = False,
) -> None:
    """List an app's invocations, the newest first: turns, clicks, tasks, ticks of schedules.

    With --status failed or timed_out what is left to do: without what was done again.
    """
    if retried and status not in (Status.FAILED, Status.TIMED_OUT):
        raise typer.BadParameter("goes with --status failed or timed_out", param_hint="--retried")
    _quiet()
    from capsule_sidecar.commands import admin

    form = admin.Form(address, json)
    wanted = admin.Wanted(
        status.number if status else 0, kind.number if kind else 0, session, reference, retried,
        limit,
    )  # fmt: skip
    raise typer.Exit(admin.ask(form, lambda link: admin.list_work(link, form, app, wanted)))


@work.command("show")
def show_work(
    app: AppName,
    invocation: Annotated[
        str, typer.Argument(help="The id of an invocation or task.", metavar="ID")
    ],
    address: Address = None,
    json: Json = False,
) -> None:
    """Show an invocation; of a task also what it was given and returned."""
    _quiet()
    from capsule_sidecar.commands import admin

    form = admin.Form(address, json)
    raise typer.Exit(admin.ask(form, lambda link: admin.show_work(link, form, app, invocation)))


@work.command("retry")
def retry_work(
    app: AppName,
    invocations: Annotated[
        list[str] | None, typer.Argument(help="What failed, by its id.", metavar="[ID]...")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed.")] = False,
    kind: Annotated[
        Kind | None, typer.Option(help="With --failed: only what is of this kind.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: Address = None,
    json: Json = False,
) -> None:
    """Do again what failed: a task goes on under its id, a message or click is queued anew, once.

    Ends with exit code 1 where one of them was refused.
    """
    if failed == bool(invocations):
        raise typer.BadParameter("give the ids of what failed, or --failed")
    if kind is not None and not failed:
        raise typer.BadParameter("goes with --failed", param_hint="--kind")
    _quiet()
    from capsule_sidecar.commands import admin

    form = admin.Form(address, json)
    if failed:
        code = admin.retry_failed(form, app, kind.number if kind else 0, sure=yes)
    else:
        code = admin.ask(form, lambda link: admin.retry_work(link, form, app, invocations or []))
    raise typer.Exit(code)


def _quiet() -> None:
    # What gRPC's core logs of lines that break says nothing that the command does not.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
