"""The dispatcher: processes that are attached, and the work they hold.

It is told by the journal what was leased and what is over, and tells the processes. Whether
something may be leased, and to whom, is decided where it is committed: in `storage.offers` and
`storage.leases`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import Replaced
from capsule_sidecar.model.types import CancelReason, DataPatch, InvocationStatus, Lease, Outcome
from capsule_sidecar.runtime.delivery import Deliveries
from capsule_sidecar.runtime.ends import Ends
from capsule_sidecar.runtime.hub import Hub
from capsule_sidecar.runtime.live import LiveStreams
from capsule_sidecar.runtime.live_stream import LiveStream, Where
from capsule_sidecar.runtime.outgoing import Outgoing
from capsule_sidecar.runtime.processes import Hello, Process, ProcessLine
from capsule_sidecar.runtime.prompting import OpenPrompts
from capsule_sidecar.runtime.web_calls import WebCalls
from capsule_sidecar.storage import attempts, jobs, leases, offers, schedules, unfinished, work
from capsule_sidecar.storage.apps import make_app
from capsule_sidecar.storage.commits import Appended, Leased, Notice
from capsule_sidecar.storage.journal import Journal, log_failure
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.storage.unit import Unit

logger = logging.getLogger("capsule.dispatcher")


class Dispatcher:
    """Attaches processes and moves work between them and the queue.

    Enter it with `async with`: what was open is known again; leaving ends what it still sends.

    Args:
        journal: The log and the queue.
        slots: The free places, shared with the journal.
        hub: The followers.
        live: The open streams.
        prompts: The open prompts.
        ends: Who waits for an end.
        limits: What goes along with work.
        timing: How long requests wait.
    """

    def __init__(
        self,
        journal: Journal,
        slots: Slots,
        hub: Hub,
        live: LiveStreams,
        prompts: OpenPrompts,
        ends: Ends,
        limits: Limits,
        timing: Timing,
    ) -> None:
        self._journal = journal
        self._slots = slots
        self._hub = hub
        self._live = live
        self._prompts = prompts
        self._ends = ends
        self.calls = WebCalls(slots, lambda n: self._processes.get(n), self._freed, limits, timing)
        self._deliveries = Deliveries(
            journal, hub.addresses, limits, journal.terms.turn_deadline_ms
        )
        self._outgoing = Outgoing(self._deliveries)
        self._processes: dict[int, Process] = {}
        self._apps: dict[str, int] = {}
        # Invocations whose handlers were told to end and may still write.
        self._ending: set[str] = set()
        # Outcomes that are not acknowledged yet.
        self._unanswered = 0
        self._draining = False
        journal.listen(self)
        live.listen(self._durable)

    async def __aenter__(self) -> Dispatcher:
        for kept in await self._journal.read(unfinished.open_texts):
            where = Where(kept.session, kept.session_id, kept.user, kept.app, kept.channel)
            self._live.restore(kept, where)
        for question in await self._journal.read(unfinished.open_questions):
            self._prompts.restore(question)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._outgoing.close()
        self._live.close()

    async def app(self, name: str) -> int:
        """Return an app's number; the app is made on first sight."""
        number = self._apps.get(name)
        if number is None:
            number = await self._journal.submit(0, partial(make_app, name=name))
            self._apps[name] = number
        return number

    async def name_owners(self, owners: Mapping[str, str]) -> None:
        """Say whose the work without a session is, by app; of every other app it is nobody's."""
        people = {await self.app(name): (name, identity) for name, identity in owners.items()}
        await self._journal.submit(0, partial(jobs.name_owners, people=people))

    @property
    def processes(self) -> list[Process]:
        """The processes that are attached here."""
        return list(self._processes.values())

    # -- processes --------------------------------------------------------------------------------

    async def attach(self, hello: Hello, line: ProcessLine) -> None:
        """Enter a process, or one that has come back.

        The line is told the welcome first, then what the process holds and did not name, then what
        is waiting. It is entered in its place among what the journal tells, so that nothing about
        its work is missed; `line.process` names it from then on.
        """
        app = await self.app(hello.app)
        for other in self.processes:
            if other.app == app and other.hello.process_id == hello.process_id:
                self._leave(other)
                other.line.outbox.fail(Replaced("the process attached again"))
        await self._journal.submit(
            app,
            partial(_attach, app=app, hello=hello),
            partial(self._entered, app, hello, line),
        )

    def _entered(self, app: int, hello: Hello, line: ProcessLine, found: leases.Attached) -> None:
        known = self._processes.pop(found.process, None)
        if known is not None:  # it attached twice at once: the later one stays
            self.calls.lost(known.number)
            known.line.outbox.fail(Replaced("the process attached again"))
        if line.gone:  # its call ended while this was committed
            self._slots.detach(found.process, hello)
            self.calls.wake(app)
            self._tell_presence(app)
            return
        process = Process(found.process, app, hello, line)
        process.running.update(found.kept)
        self._processes[process.number] = process
        line.process = process
        line.welcome(found)
        if self._draining:  # it may finish what it holds
            self._slots.drain(process.number)
            line.drain()
        for lease, reason in found.cancelled:
            line.cancel(lease, reason)
        for ended in found.resolved:
            self._resolved(line, ended.lease, ended.prompt_id, ended.prompt)
        for leased in found.missing:
            self._outgoing.deliver(process, leased)
        self._tell_presence(app)
        self.calls.wake(app)
        self._journal.start(app, partial(_take_work, process=process.number, app=app))

    def _resolved(self, line: ProcessLine, lease: Lease, prompt_id: str, prompt: bytes) -> None:
        line.resolved(lease, prompt_id, self._hub.addresses.prompt(prompt))

    def detach(self, process: Process) -> None:
        """Note that the line is gone. Its work stays leased until its term is over."""
        if self._processes.get(process.number) is process:
            self._leave(process)

    def _leave(self, process: Process) -> None:
        del self._processes[process.number]
        self._slots.detach(process.number, process.hello)
        self.calls.lost(process.number)
        self.calls.wake(process.app)
        self._tell_presence(process.app)

    def drain(self, process: Process) -> None:
        """Give the process no new work."""
        process.draining = True
        self._slots.drain(process.number)
        self._tell_presence(process.app)

    def drain_all(self) -> None:
        """Tell every process that the sidecar takes its leave, and give out no more work."""
        self._draining = True
        self.calls.close()
        for process in self.processes:
            self._slots.drain(process.number)
            process.line.drain()

    def let_go(self) -> None:
        """End every line once it has been written out."""
        for process in self.processes:
            process.line.outbox.finish()

    @property
    def busy(self) -> bool:
        """Whether any attached process runs anything that does not only wait for a person.

        What has ended counts until its outcome is acknowledged.
        """
        return self._unanswered > 0 or any(
            not self._prompts.waits(lease.invocation_id)
            for process in self._processes.values()
            for lease in process.running
        )

    def _tell_presence(self, app: int) -> None:
        online = any(
            process.app == app and process.hello.declarations.message and not process.draining
            for process in self._processes.values()
        )
        self._hub.present(app, online)

    def beat(self, process: Process) -> asyncio.Future[None]:
        """Renew the leases of a process."""
        number, app = process.number, process.app
        # Only a process whose leases were renewed is given work: otherwise it is forgotten.
        # As an operation of the app it never crosses another sidecar's sweep.
        return self._journal.submit(
            app, partial(leases.beat, process=number), lambda _: self._beaten(app, number)
        )

    async def beat_by_id(self, app: int, process_id: str) -> None:
        """Renew the leases of a process named by its id.

        Raises:
            NotFound: It is not attached.
        """
        number = await self._journal.submit(
            app, partial(leases.beat_by_key, app=app, key=process_id)
        )
        self._beaten(app, number, aside=True)

    def _freed(self, app: int, process: int) -> None:
        """Give a place that a request has left to what waits for one."""
        if self._slots.backlog(process) and not self._slots.yields(process):
            self._journal.submit(
                app,
                partial(offers.lease_ready, app=app, process=process),
                after=lambda: self.calls.wake(app),
            ).add_done_callback(log_failure)
            return
        self.calls.wake(app)
        self._fill(app, process)

    def _fill(self, app: int, process: int) -> None:
        """Give places that no request has taken to queued work."""
        if self._slots.unused(process):
            self._journal.start(app, partial(offers.lease_ready, app=app, process=process))

    def _beaten(self, app: int, process: int, *, aside: bool = False) -> None:
        if self._slots.beat(process, aside=aside):
            self._journal.start(app, partial(offers.lease_ready, app=app, process=process))
            self.calls.wake(app)

    def outcome(self, app: int, outcome: Outcome) -> asyncio.Future[InvocationStatus]:
        """Apply an outcome, behind every command that was submitted before it."""
        if self.calls.outcome(app, outcome):
            taken: asyncio.Future[InvocationStatus] = asyncio.get_running_loop().create_future()
            taken.set_result(InvocationStatus.COMPLETED)
        else:
            texts = self._live.texts(outcome.lease.invocation_id)
            taken = self._journal.submit(
                app, partial(attempts.finish, app=app, outcome=outcome, texts=texts)
            )
        self._unanswered += 1
        taken.add_done_callback(self._answered)
        return taken

    def _answered(self, _: asyncio.Future[InvocationStatus]) -> None:
        # Whoever asked for the outcome is called right behind this, in the same turn of the loop.
        self._unanswered -= 1

    # -- what the journal tells ------------------------------------------------------------------

    def committed(
        self, appended: Sequence[Appended], leased: Sequence[Leased], notices: Sequence[Notice]
    ) -> None:
        """Pass work and endings on to the processes, events to the followers.

        Work is written out first: its handler begins while followers are told what it is for.
        Where an earlier attempt is taken from its process, the events that tell of it go before.
        """
        recent = self._deliveries.recent
        if recent is not None:
            for entry in appended:
                recent.publish(entry)
        if not notices:
            self._deliver(leased)
        self._publish(appended)
        if notices:
            for notice in notices:
                self._notice(notice)
            self._deliver(leased)

    def _publish(self, appended: Sequence[Appended]) -> None:
        for entry in appended:
            if entry.closes:
                self._live.discard(entry.closes)
            self._prompts.publish(entry)
            self._hub.publish(entry)
        if appended and self.calls.wanted:
            self.calls.wake_all()  # a handler that asks a person leaves its place

    def patched(self, session: int, patch: DataPatch) -> None:
        """Keep in mind what changed of a session's data."""
        if self._deliveries.recent is not None:
            self._deliveries.recent.patched(session, patch)

    def _deliver(self, leased: Sequence[Leased]) -> None:
        for entry in leased:
            process = self._processes.get(entry.process)
            if process is not None:
                self._outgoing.deliver(process, entry)

    def _notice(self, notice: Notice) -> None:
        lease = Lease(notice.invocation_id, notice.attempt)
        if notice.resolved:
            waiting = self._processes.get(notice.process)
            if waiting is not None:
                self._resolved(waiting.line, lease, notice.prompt_id, notice.resolved)
            return
        if not notice.final:
            self._ending.add(notice.invocation_id)
        else:
            self._ending.discard(notice.invocation_id)
            self._log_failure(notice)
            self._live.over(notice.invocation_id, notice.attempt, superseded=notice.again)
            if notice.again:
                self._hub.drop_lines(notice.invocation_id)
            else:
                self._ends.tell(notice.invocation_id)
        process = self._processes.get(notice.process)
        if process is None:
            return
        if notice.final:
            process.running.discard(lease)
            if self.calls.wanted:
                self.calls.wake(process.app)
                self._fill(process.app, process.number)
        lost = notice.cancel in (CancelReason.SUPERSEDED, CancelReason.SESSION_DELETED)
        if notice.cancel and notice.final == lost:
            process.line.cancel(lease, CancelReason(notice.cancel))

    def _log_failure(self, notice: Notice) -> None:
        if notice.reason:
            logger.warning(
                "invocation %s failed: %s, attempt %d, reference %s",
                notice.invocation_id, notice.reason, notice.attempt, notice.reference,
            )  # fmt: skip

    def ending_texts(self) -> dict[str, str]:
        """Return the texts of what was told to end, which its handlers may still write."""
        found: dict[str, str] = {}
        for invocation_id in self._ending:
            found.update(self._live.texts(invocation_id))
        return found

    def tell_untold(self, process: Process, found: Iterable[leases.Untold]) -> None:
        """Tell a process of prompts that were answered by way of another sidecar."""
        goes_on: set[Lease] = set()
        for ended in found:
            if ended.prompt_id in process.line.told:
                continue
            self._resolved(process.line, ended.lease, ended.prompt_id, ended.prompt)
            if not ended.waits:
                goes_on.add(ended.lease)
        # The other one has no places of this process to take.
        self._slots.give(process.number, -len(goes_on))

    def durable(self, process: Process) -> list[Lease]:
        """Return what a process holds of the queue's work."""
        return [each for each in process.running if not self.calls.runs(each.invocation_id)]

    def tell_overtaken(
        self,
        process: Process,
        over: Iterable[Lease],
        ending: Iterable[tuple[Lease, CancelReason]],
    ) -> None:
        """Tell a process of work that ended, or is to end, by way of another sidecar.

        What this sidecar did itself was told before: it is passed over here.
        """
        if self._processes.get(process.number) is not process:
            return
        for lease, reason in ending:
            if lease in process.running and lease.invocation_id not in self._ending:
                self._notice(_told(process, lease, reason, final=False))
        for lease in over:
            if lease not in process.running:
                continue
            # The other one has no places of this process to give back.
            if not self._prompts.waits(lease.invocation_id):
                self._slots.give(process.number)
            self._notice(_told(process, lease, CancelReason.SUPERSEDED, final=True))
            self._hub.drop_lines(lease.invocation_id)

    def _durable(self, stream: LiveStream) -> None:
        for process in self._processes.values():
            if stream.lease in process.running:
                process.line.durable(stream.key, stream.durable_revision, stream.durable)


def _told(process: Process, lease: Lease, reason: CancelReason, *, final: bool) -> Notice:
    return Notice(lease.invocation_id, lease.attempt, process.number, int(reason), final=final)


def _attach(unit: Unit, app: int, hello: Hello) -> leases.Attached:
    found = leases.attach(unit, app, hello.process_id, hello.leases)
    schedules.declare(unit, app, hello.declarations.schedules)
    # In the operation, not on the loop: what ends behind it gives its place back to this entry.
    unit.enter_process(
        found.process, app, hello.declarations, hello.concurrency - found.held, owner=hello
    )
    return found


def _take_work(unit: Unit, app: int, process: int) -> None:
    work.settle_undeclared(unit, app)
    offers.lease_ready(unit, app, process)
