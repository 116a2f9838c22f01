"""The command line of the sidecar."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from capsule_sidecar.commands import operator

cli = typer.Typer(
    name="capsule-sidecar",
    help="A durable gRPC runtime for conversational apps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The settings. Default: capsule.toml, where there is one."),
]
HomeDir = Annotated[
    Path | None,
    typer.Option("--home", help="Where everything is kept. Default: .capsule", file_okay=False),
]
Grpc = Annotated[
    str | None,
    typer.Option("--grpc", help="HOST:PORT or unix:PATH. Port 0 picks one. Default: "
                 "127.0.0.1:7400"),
]  # fmt: skip
Http = Annotated[
    str | None,
    typer.Option("--http", help="HOST:PORT of the chat page and API. Port 0 picks one. Default: "
                 "127.0.0.1:7480"),
]  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"capsule-sidecar {version('capsule-sidecar')}")
        raise typer.Exit


@cli.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Say the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Take what stands before the command."""


@cli.command()
def serve(
    config: Config = None, home: HomeDir = None, grpc: Grpc = None, http: Http = None
) -> None:
    """Run the sidecar until SIGTERM or Ctrl-C."""
    from capsule_sidecar.commands.serve import serve as run

    raise typer.Exit(run(config, home, grpc, http))


@cli.command()
def dev(
    target: Annotated[str, typer.Argument(help="The handler, as app.py:app.", metavar="TARGET")],
    config: Config = None,
    home: HomeDir = None,
    grpc: Grpc = None,
    http: Http = None,
) -> None:
    """Run sidecar and handler in one terminal; the handler is loaded anew when its file changes."""
    from capsule_sidecar.commands.dev import dev as run

    raise typer.Exit(run(target, config, home, grpc, http))


@cli.command()
def chat(
    app: Annotated[str, typer.Argument(help="The app's name.", metavar="APP")],
    session: Annotated[
        str | None, typer.Option(help="Go on with this session. Default: the last one.")
    ] = None,
    login: Annotated[
        str | None, typer.Option("--as", metavar="LOGIN", help="Who you are. Default: your login.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Where the sidecar is. Default: CAPSULE_ADDRESS or 127.0.0.1:7400"),
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Open a new session.")] = False,
) -> None:
    """Talk to an app from the terminal.

    Ctrl-C stops an answer; /help lists the commands. The token is CAPSULE_TOKEN, or the file in
    CAPSULE_HOME or .capsule. Lines may also come through a pipe.
    """
    # What gRPC's core logs of lines that break would stand in the middle of the conversation.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from capsule_sidecar.commands.chat import ChatOptions, run_chat

    raise typer.Exit(asyncio.run(run_chat(ChatOptions(app, session, login, address, new))))


cli.command()(operator.apps)
cli.add_typer(operator.sessions, name="sessions")
cli.add_typer(operator.work, name="work")


def main() -> None:
    """Runs the command line."""
    cli()
