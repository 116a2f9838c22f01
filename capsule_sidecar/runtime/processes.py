"""Handler processes as they are attached here: how each introduced itself, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from capsule_sidecar.batching import Outbox
from capsule_sidecar.model.types import CancelReason, Declarations, Lease
from capsule_sidecar.storage import leases


@dataclass(frozen=True, slots=True)
class Hello:
    """How a process introduces itself."""

    app: str
    process_id: str
    client_name: str
    client_version: str
    declarations: Declarations
    concurrency: int
    leases: tuple[Lease, ...]


class ProcessLine:
    """What a process is told; made by the transport, which knows the frames."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.process: Process | None = None
        # Nobody serves it any more.
        self.gone = False
        # Prompts that it was told of and has not acknowledged.
        self.told: set[str] = set()

    def welcome(self, found: leases.Attached) -> None:
        """Tell what the process keeps and what it has lost."""
        raise NotImplementedError

    def cancel(self, lease: Lease, reason: CancelReason) -> None:
        """Tell that an attempt is to end."""
        raise NotImplementedError

    def durable(self, stream_id: str, revision: int, position: int) -> None:
        """Tell how far a stream is durable."""
        raise NotImplementedError

    def resolved(self, lease: Lease, prompt_id: str, prompt: bytes) -> None:
        """Tell how a prompt, encoded, has ended."""
        raise NotImplementedError

    def drain(self) -> None:
        """Tell that the sidecar takes its leave."""
        raise NotImplementedError


@dataclass(slots=True)
class Process:
    """A process that is attached to this sidecar."""

    number: int
    app: int
    hello: Hello
    line: ProcessLine
    running: set[Lease] = field(default_factory=set)
    draining: bool = False
