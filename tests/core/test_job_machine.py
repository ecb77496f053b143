"""A world around `step` in which everything goes wrong that can, and the laws that hold all the same.

The store's committed files are the truth. Messages are lost, doubled, reordered and late; workers crash; masters
die between any two commands, are succeeded, or go on although they are. Once the faults stop, the job must end.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mrq.core import policy
from mrq.core.commands import Cancel, Command, Fail, Finish, Forget, Persist, Publish
from mrq.core.events import (
    CancelRequested,
    Event,
    JobClaimed,
    TaskDone,
    TaskFailed,
    TaskLost,
    TaskStarted,
    Tick,
    WindowChanged,
)
from mrq.core.job import step
from mrq.core.model import PHASES, Failure, Job, JobState, Phase, Spec

ORDER = {state: n for n, state in enumerate(JobState)}
ROUNDS = 200
"""More than a job of these sizes can need once nothing goes wrong any more."""

Place = tuple[Phase, int]


@dataclass(frozen=True)
class Message:
    """A task on its way to a worker."""

    phase: Phase
    index: int
    epoch: int
    attempt: int


@dataclass
class Record:
    """The job's znode."""

    state: JobState = JobState.SUBMITTED
    epoch: int = 0
    cancel_requested: bool = False


@dataclass(eq=False)
class Master:
    """One claim of the job, and what a test remembers of it.

    Attributes:
        held: epoch and state of the record as this master last saw them.
        todo: commands not performed yet.
        persisted: what this master's record write said last.
        known: the committed tasks of the phase that the core was told.
        out: attempts published (or about to be), of which the core was told no end.
        tried: the last attempt of each place.
        ends: how often attempts that were out failed, by place and kind.
        rests: until when a place that failed is to be left alone.
    """

    job: Job
    epoch: int
    held: tuple[int, JobState]
    claimed: bool = False
    todo: deque[Command] = field(default_factory=deque)
    persisted: JobState | None = None
    known: set[Place] = field(default_factory=set)
    out: dict[Place, int] = field(default_factory=dict)
    tried: dict[Place, int] = field(default_factory=dict)
    ends: Counter[tuple[Place, str]] = field(default_factory=Counter)
    rests: dict[Place, float] = field(default_factory=dict)


def which(things: list[Any], pick: int) -> Any:
    """Choose one; 0 is the newest."""
    return things[-1 - pick % len(things)]


picks = st.integers(0, 5)
mostly_the_newest = st.sampled_from([0, 0, 0, 1, 2])
kinds = st.sampled_from(["raised"] * 4 + ["timeout"] * 2 + ["crashed"] * 3 + ["refused"])


class World(RuleBasedStateMachine):
    """The rules are what can happen; the laws are checked at every step of the core and after every rule."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.epochs = 0
        self.record = Record()
        self.files: dict[Phase, set[int]] = {phase: set() for phase in PHASES}
        self.queue: list[Message] = []
        self.running: list[Message] = []
        self.reports: list[Callable[[float], Event]] = []
        self.sent: list[Message] = []
        self.told: list[Callable[[float], Event]] = []
        self.masters: list[Master] = []

    @initialize(
        n_map=st.integers(0, 4),
        n_reduce=st.integers(1, 3),
        window=st.integers(1, 3),
        retries=st.sampled_from([0, 1, 2, 3, 3]),
        crash_limit=st.sampled_from([1, 2, 3, 3]),
        begins=st.sampled_from([True, True, True, False]),
    )
    def submit(
        self, n_map: int, n_reduce: int, window: int, retries: int, crash_limit: int, begins: bool
    ) -> None:
        self.spec = Spec("job_7", n_map, n_reduce if n_map else 0, window, retries, crash_limit)
        if begins:
            self.goes_well()

    # ------------------------------------------------------------ masters

    @precondition(lambda self: not self.record.state.ended and len(self.masters) < 3)
    @rule(loads=st.booleans())
    def a_master_claims(self, loads: bool) -> None:
        """The last owner's session has expired, whether it knows it or not."""
        self.epochs += 1
        held = (self.record.epoch, self.record.state)
        self.masters.append(Master(Job(self.spec), self.epochs, held))
        if loads:
            self.a_master_loads(0)

    @precondition(lambda self: any(not m.claimed for m in self.masters))
    @rule(pick=picks)
    def a_master_loads(self, pick: int) -> None:
        """Some time after its claim a master lists what is committed, and steps."""
        master = which([m for m in self.masters if not m.claimed], pick)
        state = master.held[1]
        if state.ended:
            self.masters.remove(master)
            return
        phase = Phase.MAP if state is JobState.SUBMITTED else Phase(state.value)
        committed = frozenset(self.files[phase])
        master.claimed = True
        master.known = {(phase, i) for i in committed}
        self.apply(master, JobClaimed(master.epoch, state, {phase: committed}, self.now))

    @precondition(lambda self: self.acting())
    @rule(pick=mostly_the_newest, n=st.integers(1, 8))
    def a_master_performs(self, pick: int, n: int) -> None:
        """The servers take the next few commands."""
        self.perform(which(self.acting(), pick), n)

    @precondition(lambda self: self.masters)
    @rule(pick=picks)
    def a_master_dies(self, pick: int) -> None:
        """What it has not performed stays undone."""
        self.masters.remove(which(self.masters, pick))

    @precondition(lambda self: self.acting())
    @rule(pick=picks, back=st.integers(0, 2), state=st.sampled_from(JobState))
    def an_old_claim_is_told_again(self, pick: int, back: int, state: JobState) -> None:
        """It changes nothing."""
        master = which(self.acting(), pick)
        if not master.job.state.ended:
            claim = JobClaimed(max(master.epoch - back, 0), state, {}, self.now)
            assert step(master.job, claim) == (master.job, ())

    # ------------------------------------------------------------ workers

    @precondition(lambda self: self.queue)
    @rule(pick=picks, looks=st.booleans(), tells=st.booleans())
    def a_worker_starts(self, pick: int, looks: bool, tells: bool) -> None:
        """It may know of an epoch's end, or not yet; that it says that it has started may be lost."""
        message = which(self.queue, pick)
        self.queue.remove(message)
        if looks and self.is_over(message):
            return
        self.running.append(message)
        if tells:
            self.say(message, lambda m, now: TaskStarted(m.phase, m.index, m.epoch, m.attempt, "w", now))

    @precondition(lambda self: self.running)
    @rule(pick=picks, tells=st.booleans())
    def a_worker_commits(self, pick: int, tells: bool) -> None:
        """The file is there; that it says so may be lost."""
        message = which(self.running, pick)
        self.running.remove(message)
        self.commit(message)
        if tells:
            self.say(message, lambda m, now: TaskDone(m.phase, m.index, now))

    @precondition(lambda self: self.running)
    @rule(pick=picks, kind=kinds, tells=st.booleans())
    def a_worker_fails(self, pick: int, kind: str, tells: bool) -> None:
        """The function raised, took too long, or ended its process."""
        message = which(self.running, pick)
        self.running.remove(message)
        if tells:
            self.say(message, lambda m, now: TaskFailed(m.phase, m.index, m.epoch, m.attempt, kind, now))

    @precondition(lambda self: self.acting() and (self.queue or self.running or self.acting()[-1].todo))
    @rule(kinds=st.lists(kinds, min_size=1, max_size=6), last=st.booleans())
    def all_that_is_tried_fails_for_a_while(self, kinds: list[str], last: bool) -> None:
        """And the master hears of each; the one that was published last, or first, goes first."""
        for kind in kinds:
            if not self.acting():
                return
            master = self.acting()[-1]
            self.perform(master, len(master.todo))
            tried = [m for m in (*self.running, *self.queue) if m.epoch == master.epoch]
            if master in self.masters and tried:
                m = tried[-1 if last else 0]
                (self.running if m in self.running else self.queue).remove(m)
                self.apply(master, TaskFailed(m.phase, m.index, m.epoch, m.attempt, kind, self.now))
                self.now += 0.2
                self.apply(master, Tick(self.now))

    @precondition(lambda self: self.running)
    @rule(pick=picks)
    def a_worker_dies(self, pick: int) -> None:
        """Its message goes back to the queue."""
        message = which(self.running, pick)
        self.running.remove(message)
        self.queue.append(message)

    # ------------------------------------------------------------ messages

    @precondition(lambda self: self.queue)
    @rule(pick=picks, tells=st.booleans())
    def a_task_message_goes_astray(self, pick: int, tells: bool) -> None:
        """The queue was deleted, or the delivery limit was reached: then the dead letter tells."""
        message = which(self.queue, pick)
        self.queue.remove(message)
        if tells:
            self.say(message, lambda m, now: TaskLost(m.phase, m.index, m.epoch, m.attempt, now))

    @precondition(lambda self: self.sent)
    @rule(pick=picks)
    def a_task_message_comes_again(self, pick: int) -> None:
        """A worker's connection was lost before its ack, or the publish was sent twice: any attempt may run."""
        self.running.append(which(self.sent, pick))

    @precondition(lambda self: self.reports and self.acting())
    @rule(report=picks, master=mostly_the_newest)
    def a_report_arrives(self, report: int, master: int) -> None:
        """In any order, at whichever master."""
        made = which(self.reports, report)
        self.reports.remove(made)
        self.apply(which(self.acting(), master), made(self.now))

    @precondition(lambda self: self.told and self.acting())
    @rule(reports=st.lists(st.integers(0, 20), min_size=1, max_size=5), master=mostly_the_newest)
    def reports_arrive_late_or_again(self, reports: list[int], master: int) -> None:
        """Whatever was ever said may be heard at any time."""
        for report in reports:
            self.apply(which(self.acting(), master), which(self.told, report)(self.now))

    @precondition(lambda self: self.reports)
    @rule(pick=picks)
    def a_report_is_lost(self, pick: int) -> None:
        """Nobody was bound to the exchange."""
        self.reports.remove(which(self.reports, pick))

    # ------------------------------------------------------------ time, shares, truth, the client

    @rule(seconds=st.sampled_from([0.1, 5.0]))
    def nothing_happens(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.acting())
    @rule(pick=mostly_the_newest, seconds=st.sampled_from([0.0, 0.1, 1.0, 10.0]))
    def time_passes(self, pick: int, seconds: float) -> None:
        self.now += seconds
        self.apply(which(self.acting(), pick), Tick(self.now))

    @precondition(lambda self: self.acting())
    @rule(pick=picks, window=st.integers(1, 4))
    def workers_come_and_go(self, pick: int, window: int) -> None:
        self.apply(which(self.acting(), pick), WindowChanged(window, self.now))

    @precondition(lambda self: self.acting())
    @rule(pick=picks)
    def a_master_reconciles(self, pick: int) -> None:
        self.reconcile(which(self.acting(), pick))

    @precondition(lambda self: any(m.job.outstanding for m in self.acting()))
    @rule(pick=picks, task=picks)
    def a_master_gives_a_task_up_too_early(self, pick: int, task: int) -> None:
        """It runs, or waits, all the same: two attempts then race."""
        master = which([m for m in self.acting() if m.job.outstanding], pick)
        if not master.job.state.ended:
            index = which(sorted(master.job.outstanding), task)
            attempt = master.job.outstanding[index].attempt
            self.apply(master, TaskLost(master.job.phase, index, master.epoch, attempt, self.now))

    @precondition(lambda self: any(m.job.again for m in self.acting()))
    @rule(pick=picks, task=picks)
    def a_task_to_be_tried_again_is_committed_after_all(self, pick: int, task: int) -> None:
        """By an attempt that was given up, or of an older epoch."""
        master = which([m for m in self.acting() if m.job.again], pick)
        if not master.job.state.ended:
            index = which(sorted(master.job.again), task)
            self.files[master.job.phase].add(index)
            self.apply(master, TaskDone(master.job.phase, index, self.now))

    @precondition(lambda self: len(self.told) > 6 and not self.record.state.ended)
    @rule()
    def the_client_cancels(self) -> None:
        self.record.cancel_requested = True
        if self.record.epoch == 0:
            self.record.state = JobState.CANCELLED

    @precondition(lambda self: self.record.cancel_requested and self.acting())
    @rule(pick=picks)
    def a_master_sees_the_cancellation(self, pick: int) -> None:
        self.apply(which(self.acting(), pick), CancelRequested(self.now))

    @precondition(lambda self: not self.record.state.ended)
    @rule(n=st.integers(1, 3))
    def all_goes_well_for_a_while(self, n: int) -> None:
        """Or no example would come far."""
        for _ in range(n):
            self.goes_well()

    def goes_well(self) -> None:
        """One task is done, and whoever owns the job hears of it."""
        if not self.masters and not self.record.state.ended:
            self.a_master_claims(loads=True)
        if self.acting():
            self.round(self.acting()[-1], tasks=1, stragglers=len(self.reports))

    # ------------------------------------------------------------ once the faults stop

    def teardown(self) -> None:
        """The job must end, and as it should."""
        if sys.exc_info()[0] is not None or not hasattr(self, "spec"):
            return
        for master in self.acting()[:-1]:
            self.perform(master, len(master.todo))  # the stale ones find out
        for _ in range(ROUNDS):
            if self.record.state.ended and not any(m.todo for m in self.acting()):
                break
            if not self.masters or self.masters[-1].epoch < self.epochs:
                self.a_master_claims(loads=True)
            if not self.masters[-1].claimed:
                self.a_master_loads(0)
            if self.masters and self.masters[-1].claimed:
                self.round(self.masters[-1], tasks=len(self.queue) + len(self.running))
        assert self.record.state.ended, f"the job hangs: {self.record} {[m.job for m in self.masters]}"
        if self.record.state is JobState.COMPLETED:
            assert self.files == {phase: set(range(self.spec.n_tasks(phase))) for phase in PHASES}
        self.laws_hold()

    def round(self, master: Master, tasks: int, stragglers: int = 0) -> None:
        """Everything works for a round: performed, run, committed, reported (but old reports), and time passes."""
        self.perform(master, len(master.todo))
        for _ in range(tasks):
            if self.queue and not self.is_over(message := self.queue.pop(0)):
                self.running.append(message)
            if self.running:
                message = self.running.pop(0)
                self.say(message, lambda m, now: TaskStarted(m.phase, m.index, m.epoch, m.attempt, "w", now))
                self.commit(message)
                self.say(message, lambda m, now: TaskDone(m.phase, m.index, now))
        while len(self.reports) > stragglers and master in self.masters:
            self.apply(master, self.reports.pop(stragglers)(self.now))
        self.now += 2.0
        if master in self.masters:
            self.reconcile(master)
        events: list[Event] = [Tick(self.now)]
        if self.record.cancel_requested:
            events.append(CancelRequested(self.now))
        for event in events:
            if master in self.masters:
                self.apply(master, event)
                self.perform(master, len(master.todo))

    # ------------------------------------------------------------ the world

    def acting(self) -> list[Master]:
        """The masters that have stepped their claim, oldest first; all but the newest are stale."""
        return [m for m in self.masters if m.claimed]

    def is_over(self, message: Message) -> bool:
        """Whether a worker that looks at the record drops the task."""
        record = self.record
        return record.state.ended or record.cancel_requested or message.epoch < record.epoch

    def say(self, message: Message, make: Callable[[Message, float], Event]) -> None:
        self.told.append(lambda now: make(message, now))
        self.reports.append(self.told[-1])

    def commit(self, message: Message) -> None:
        for phase in PHASES[: PHASES.index(message.phase)]:
            lacking = set(range(self.spec.n_tasks(phase))) - self.files[phase]
            assert not lacking, f"{message} ran before {phase.value} {lacking} was committed"
        self.files[message.phase].add(message.index)

    def reconcile(self, master: Master) -> None:
        """As `Master._reconcile_one` does it."""
        job = master.job
        if job.state.ended:
            return
        phase = job.phase
        for index in sorted(self.files[phase]):
            if not master.job.state.ended and master.job.phase is phase:
                self.apply(master, TaskDone(phase, index, self.now))
        job = master.job
        if job.state.ended or master.todo:
            return
        phase = job.phase
        for message in self.running:  # a sign of life
            started = TaskStarted(message.phase, message.index, message.epoch, message.attempt, "w", self.now)
            self.apply(master, started)
        empty = not any(message.phase is phase for message in self.queue)
        for index in policy.unheard_of(master.job, self.now, 1.0, queue_empty=empty, workers={"w"}):
            attempt = master.job.outstanding[index].attempt
            self.apply(master, TaskLost(phase, index, master.epoch, attempt, self.now))

    # ------------------------------------------------------------ step, and its laws

    def apply(self, master: Master, event: Event) -> None:
        """Step the core; see that it keeps the laws."""
        before = master.job
        after, commands = step(before, event)
        assert step(before, event) == (after, commands), "the same state and event, another result"
        self.ignores_what_is_void(master, event, (after, commands))
        assert ORDER[after.state] >= ORDER[before.state], "a phase went back"
        if isinstance(event, TaskDone) and not before.state.ended and event.phase.value == before.state.value:
            master.known.add((event.phase, event.index))
        self.keeps_count(master, event, after)
        for command in commands:
            self.law_of_command(master, after, command)
        if after != before and not after.state.ended and not isinstance(event, TaskStarted):
            assert step(after, Tick(self.now)) == (after, ()), "not all that could be published was"
        publishes = [command for command in commands if isinstance(command, Publish)]
        assert not publishes or len(after.outstanding) <= after.spec.window, "the window is exceeded"
        master.job = after
        master.todo.extend(commands)
        self.law_of_job(master)

    def ignores_what_is_void(self, master: Master, event: Event, result: tuple[Job, Any]) -> None:
        """What has ended, another epoch's attempt and one that is not out change nothing."""
        void = master.job.state.ended
        if isinstance(event, TaskStarted | TaskFailed | TaskLost):
            out = master.out.get((event.phase, event.index))
            void = void or event.epoch != master.epoch or out != event.attempt
            void = void or event.phase.value != master.job.state.value
        if void:
            assert result == (master.job, ()), f"{event} is void, yet changed the job"

    def keeps_count(self, master: Master, event: Event, after: Job) -> None:
        """Note the ends of attempts."""
        if isinstance(event, TaskDone):
            master.out.pop((event.phase, event.index), None)
        elif isinstance(event, TaskFailed | TaskLost) and after != master.job:
            place = (event.phase, event.index)
            del master.out[place]
            master.ends[place, event.kind if isinstance(event, TaskFailed) else "lost"] += 1
            if isinstance(event, TaskFailed):
                master.rests[place] = event.now + policy.FIRST_BACKOFF
                assert after.state.ended == self.has_failed(master, place), "failed too early, or too late"

    def has_failed(self, master: Master, place: Place) -> bool:
        """Whether what a task did in this epoch is the end of its job."""
        count = {kind: master.ends[place, kind] for kind in ("raised", "timeout", "crashed", "refused")}
        exceptions = count["raised"] + count["timeout"]
        return (
            exceptions > self.spec.retries
            or count["crashed"] >= self.spec.crash_limit
            or count["refused"] > 0
        )

    def law_of_command(self, master: Master, after: Job, command: Command) -> None:
        if isinstance(command, Publish):
            place = (command.phase, command.index)
            assert command.phase.value == after.state.value, "a task of another phase is published"
            assert place not in master.known, f"{place} is published although it is committed"
            assert place not in master.out, f"{place} has two attempts out"
            assert command.attempt > master.tried.get(place, -1), f"{place} repeats an attempt's number"
            assert self.now >= master.rests.get(place, 0.0), f"{place} is tried again without a wait"
            master.out[place] = master.tried[place] = command.attempt
        elif isinstance(command, Fail):
            self.law_of_failure(master, command.failure)
        elif isinstance(command, Finish):
            everything = set(range(self.spec.n_reduce))
            assert self.files[Phase.REDUCE] == everything, "finished without every result"

    def law_of_failure(self, master: Master, failure: Failure) -> None:
        """It says which task it was, how often that was tried, and how it ended."""
        place = (failure.phase, failure.index)
        assert failure.attempts == sum(n for (other, _), n in master.ends.items() if other == place)
        assert master.ends[place, "crashed" if failure.kind == "poison" else failure.kind] > 0

    def law_of_job(self, master: Master) -> None:
        """What the core holds is consistent, and no more than it needs."""
        job = master.job
        if job.state.ended:
            return
        phase, n_tasks = job.phase, job.spec.n_tasks(job.phase)
        done = {i for i in range(n_tasks) if job.committed >> i & 1}
        assert {(phase, i) for i in done} == {place for place in master.known if place[0] is phase}
        assert done != set(range(n_tasks)), "a phase that is complete was not left"
        assert not done & (job.outstanding.keys() | job.again.keys() | job.trouble.keys())
        assert not job.outstanding.keys() & job.again.keys()
        held = done | job.outstanding.keys() | job.again.keys()
        assert set(range(job.cursor)) <= held, "a task is forgotten"
        assert {i: o.attempt for i, o in job.outstanding.items()} == {
            i: attempt for (p, i), attempt in master.out.items() if p is phase
        }
        filled = step(job, Tick(self.now))[0]
        due = [i for i, at in filled.again.items() if at <= self.now]
        idle = len(filled.outstanding) < filled.spec.window
        assert not idle or (filled.cursor == n_tasks and not due), "a slot idles"

    # ------------------------------------------------------------ perform, and its laws

    def perform(self, master: Master, n: int) -> None:
        """Perform up to ``n`` commands; a record write that is refused ends this master's part."""
        for _ in range(n):
            if not master.todo or master not in self.masters:
                break
            command = master.todo.popleft()
            match command:
                case Persist(state):
                    self.write(master, state)
                    master.persisted = state
                case Publish(phase, index, attempt):
                    assert master.persisted is not None, "published before any record was written"
                    assert master.persisted.value == phase.value, "published before the record said so"
                    self.queue.append(Message(phase, index, master.epoch, attempt))
                    self.sent.append(self.queue[-1])
                case Finish():
                    self.write(master, JobState.COMPLETED)
                case Fail():
                    self.write(master, JobState.FAILED)
                case Cancel():
                    assert self.record.cancel_requested
                    self.write(master, JobState.CANCELLED)
                case Forget():
                    assert self.record.state.ended, "a job was forgotten before its record had ended"
        if master in self.masters and master.job.state.ended and not master.todo:
            self.masters.remove(master)

    def write(self, master: Master, state: JobState) -> None:
        """As `Registry.amend`: refused when another epoch has written, or the job has ended."""
        if (self.record.epoch, self.record.state) != master.held:
            self.masters.remove(master)
            return
        assert ORDER[state] >= ORDER[self.record.state], (
            f"the record goes from {self.record.state} to {state}"
        )
        assert master.epoch >= self.record.epoch, "the record was written under an older epoch"
        self.record = replace(self.record, epoch=master.epoch, state=state)
        master.held = (master.epoch, state)

    @invariant()
    def laws_hold(self) -> None:
        """The record never says more than is true."""
        state = self.record.state
        if state.value in PHASES:
            for phase in PHASES[: PHASES.index(Phase(state.value))]:
                assert self.files[phase] == set(range(self.spec.n_tasks(phase)))
        assert state is not JobState.CANCELLED or self.record.cancel_requested


def test_whatever_happens_the_laws_hold_and_the_job_ends() -> None:
    """Examples are drawn at random, and shrunk to the fewest steps that break a law."""
    run_state_machine_as_test(World, settings=settings(max_examples=200, stateful_step_count=40))
