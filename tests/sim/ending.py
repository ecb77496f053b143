"""What must be true in the end, once the troubles are over and all jobs have ended."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

from mrq import sidecar
from mrq.blob import Signer
from mrq.core.keys import sorted_by_key
from mrq.core.model import JobState, Phase
from mrq.records import Manifest
from mrq.segment import SegmentReader
from mrq.wire import decode
from tests.sim import hooks
from tests.sim.cast import Cast, Services, WorkerNode
from tests.sim.functions import expected
from tests.sim.plan import Order


class Ending:
    """Looks at a world that has come to rest.

    Args:
        services: the servers, and the judge.
        cast: the processes.
    """

    def __init__(self, services: Services, cast: Cast) -> None:
        self._services = services
        self._cast = cast

    def unfinished(self, orders: list[Order]) -> list[str]:
        """Return the jobs that go on."""
        left = [str(order) for order in orders if not order.over]
        for job_id in sorted(self._services.tree.kids.get("/jobs", ())):
            record = self._services.judge.record(job_id)
            if record is None:
                left.append(f"{job_id} without a record")
            elif not record.state.ended:
                left.append(f"{job_id} is {record.state.value}")
        return left

    def left_over(self) -> list[str]:
        """Return what should not be there when all jobs have ended and all is well."""
        judge = self._services.judge
        late = judge.late
        left = [
            f"{depth.ready + depth.unacked} messages in {name}"
            for name, depth in self._services.rabbit.depths().items()
            if name != "dead" and depth.ready + depth.unacked
        ]
        left += [
            f"an owner of {path.split('/')[2]}"
            for path in self._services.tree.nodes
            if path.endswith("/owner") and path not in late
        ]
        left += [
            f"the attempt {path}"
            for path in self._services.hdfs.files
            if "/attempts/" in path and path not in late and not judge.was_left(path.split("/")[1])
        ]
        for node in (*self._cast.living("masters"), *self._cast.living("workers")):
            entry = self._services.tree.nodes.get(f"/{node.role}/{node.name}")
            if entry is None or entry.owner != node.session.number:
                left.append(f"{node.name} is not registered")
            if isinstance(node, WorkerNode):
                left += [f"{task.task_id} is running" for task in node.executor.running()]
        return left

    def fault_of(self, order: Order) -> str | None:
        """Compare how a job ended with what it is; return what is wrong with that."""
        assert order.future
        try:
            result = order.future.result(timeout=0)
        except CancelledError:
            return None if order.cancelled else f"{order.job_id} is cancelled, and nobody asked for it"
        except BaseException as error:
            name = type(error).__name__
            was_full = name == "StoreFull" and self._services.hdfs.full_until
            allowed = order.n and (name in order.kind.ends or was_full)
            return None if allowed else f"{order.job_id} ({order}) failed: {error!r}"
        if order.n == 0:
            return f"{order.job_id}: of no data came {result}" if result != [] else None
        if "result" not in order.kind.ends:
            return f"{order.job_id} ({order}) has a result"
        return self._fault_of_result(order, result)

    def _fault_of_result(self, order: Order, result: Any) -> str | None:
        what = f"{order.job_id} ({order})"
        wanted, skipped = expected(order.kind, order.data)
        if order.kind.exact and result != wanted:
            return f"{what}: {result} is not {wanted}"
        committed, found = self._as_committed(order.job_id)
        if result != committed:
            return f"{what}: {result} is not what was committed"
        if order.kind.exact and found != sorted(skipped):
            return f"{what}: the manifest says that {found} were skipped, not {sorted(skipped)}"
        return None

    def _as_committed(self, job_id: str) -> tuple[list[tuple[Any, Any]], list[str]]:
        """Return the result as the files have it, and what was skipped as the manifest has it."""
        judge, signer = self._services.judge, Signer(hooks.one_key(), job_id)
        files, record = judge.results(job_id), judge.record(job_id)
        assert record
        sealed = judge.committed_data[f"jobs/{job_id}/manifest"]
        manifest = decode(Manifest, signer.open("manifest", "", sealed))
        store: Any = _Files(files)
        pairs: list[tuple[Any, Any]] = []
        for index in range(len(manifest.results)):
            path = f"jobs/{job_id}/{Phase.REDUCE.results}/{index}"
            pairs += SegmentReader(store, path, len(files[path]), signer, "reduce", str(index)).partition(0)
        tasks = [(entry.phase, entry.index) for entry in manifest.skipped]
        with hooks.installed(self._services.world):
            skipped = sidecar.read_skipped(store, signer, tasks, record.n_reduce)
        told = sum(entry.records for entry in manifest.skipped)
        found = sorted(str(one.record) for one in skipped)
        return sorted_by_key(pairs), found if told == len(found) else [f"{told} records, not {len(found)}"]

    def files_of(self, order: Order) -> dict[str, bytes] | None:
        """Return what the tasks of a completed job have committed; None if that is not foreseen."""
        record = self._services.judge.record(order.job_id)
        if record is None or record.state is not JobState.COMPLETED or not order.kind.exact:
            return None
        return self._services.judge.results(order.job_id)


class _Files:
    """As much of a store as readers need."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self._files[path][offset:]
        return data if length is None else data[:length]

    def status(self, path: str) -> Any:
        from mrq.ports import FileStatus

        return FileStatus(path, len(self._files[path]))
