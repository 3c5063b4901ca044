"""Jobs: one at a time and in order, with a log and progress; cancelled, killed, retried, and never running for ever."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from osv_lab.cli import main
from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.jobs import Job, cancel, find_job, job_log, list_jobs, queue, retry, work, worker_alive

PLUGIN = '''
import os, time
import fiftyone.operators as foo
from fiftyone.operators import types


class Do(foo.Operator):
    """Writes begin and end to a file, and in between sleeps, fails, dies, or does not listen."""

    @property
    def config(self):
        return foo.OperatorConfig(name="do", label="Do", allow_delegated_execution=True)

    def resolve_input(self, ctx):
        inputs = types.Object()
        inputs.str("name", required=True)
        return types.Property(inputs)

    def execute(self, ctx):
        name, how = ctx.params["name"], ctx.params.get("how", "done")
        diary = ctx.params["diary"]
        say = lambda what: open(diary, "a").write(f"{what} {name}\\n")
        say("begin")
        ctx.set_progress(progress=0.5, label="half: 1 of 2")
        print("hello from", name)
        try:
            if how == "sleep":
                while True:
                    time.sleep(0.05)
            if how == "deaf":
                import signal
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                time.sleep(600)
            if how == "fail":
                raise ValueError("no such moon")
            if how == "die":
                os.kill(os.getpid(), 9)
        except KeyboardInterrupt:
            say("tidied")
            raise
        say("end")
        return {"summary": f"did {name}"}


def register(plugin):
    plugin.register(Do)
'''


class Bench:
    """Jobs of one dataset, what they wrote, and workers to run them."""

    def __init__(self, folder: Path, dataset: str) -> None:
        self.dataset, self.diary = dataset, folder / "diary.txt"
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None
        self.worker: subprocess.Popen[bytes] | None = None

    def schedule(self, name: str, how: str = "done") -> str:
        import fiftyone.operators as foo

        parameters = {"name": name, "how": how, "diary": str(self.diary)}
        options = {"dataset": self.dataset, "params": parameters, "request_delegation": True}
        # Beside an event loop, such as the one that browser tests leave in this thread, it would not wait.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(foo.execute_operator, "@test/do/do", **options).result()
        return list_jobs(self.dataset).jobs[0].id

    def said(self) -> list[str]:
        return self.diary.read_text().splitlines() if self.diary.exists() else []

    def work(self, grace_s: float = 30) -> None:
        """A worker in a thread of this process, which saves the seconds that FiftyOne takes to start."""
        options = {"poll_s": 0.1, "grace_s": grace_s}
        self.thread = threading.Thread(target=work, args=(self.stop,), kwargs=options)
        self.thread.start()

    def process(self) -> subprocess.Popen[bytes]:
        """A worker as a process of its own."""
        code = "import threading; from osv_lab.jobs import work; work(threading.Event(), poll_s=0.1)"
        self.worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
        return self.worker

    def close(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(60)
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()

    def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + 240
        while not condition():
            assert time.monotonic() < deadline, f"never: {what}\n{list_jobs(self.dataset).rows()}\n{self.said()}"
            time.sleep(0.1)

    def ended(self, id: str) -> Job:
        self.until(lambda: find_job(id).over, f"{id} is over")
        return find_job(id)


@pytest.fixture
def bench(fo: Any, dataset_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    folder = tmp_path / "plugins" / "do"
    folder.mkdir(parents=True)
    (folder / "fiftyone.yml").write_text('name: "@test/do"\noperators:\n  - do\n')
    (folder / "__init__.py").write_text(PLUGIN)
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(tmp_path / "plugins"))
    monkeypatch.setattr(fo.config, "plugins_dir", str(tmp_path / "plugins"))
    fo.Dataset(dataset_name)
    bench = Bench(tmp_path, dataset_name)
    yield bench
    bench.close()
    queue.operations().delete_many({"context.request_params.dataset_name": dataset_name})


def test_in_order_one_at_a_time_with_log_and_result_and_failures_passed_over(bench: Bench) -> None:
    first, bad, killed = bench.schedule("a"), bench.schedule("b", "fail"), bench.schedule("c", "die")
    assert not worker_alive() and "no worker" in list_jobs(bench.dataset).summary()
    bench.work()
    bench.until(lambda: find_job(first).over, "a is over")
    again = retry(first)
    assert bench.ended(again.id).state == "done" and worker_alive()
    assert bench.said() == ["begin a", "end a", "begin b", "begin c", "begin a", "end a"]
    assert find_job(first).outcome == "did a"
    assert (find_job(first).progress, find_job(first).said) == (0.5, "half: 1 of 2")
    assert find_job(bad).state == "failed" and "no such moon" in find_job(bad).error
    assert "hello from b" in job_log(bad) and "Traceback" in job_log(bad)
    assert find_job(killed).state == "failed"
    assert "SIGKILL" in find_job(killed).error and "hello from c" in find_job(killed).error


def test_a_cancelled_job_tidies_up_or_is_killed_and_one_that_waits_never_runs(
    bench: Bench,
) -> None:
    running, deaf, waiting = bench.schedule("a", "sleep"), bench.schedule("b", "deaf"), bench.schedule("c")
    bench.work(grace_s=8)
    bench.until(lambda: "hello" in job_log(running), "a begins")
    assert find_job(running).state == "running"
    assert cancel(waiting).state == "cancelled"
    cancel(running)
    assert bench.ended(running).state == "cancelled"
    bench.until(lambda: "hello" in job_log(deaf), "b begins")
    time.sleep(0.5)
    cancel(deaf)
    assert bench.ended(deaf).state == "cancelled"
    assert bench.said() == ["begin a", "tidied a", "begin b"]
    with pytest.raises(UsageError, match="is over"):
        cancel(running)


def test_a_killed_worker_leaves_its_job_failed_another_goes_on_and_one_that_is_stopped_interrupts(
    bench: Bench,
) -> None:
    lost, next_one = bench.schedule("a", "sleep"), bench.schedule("b", "sleep")
    worker = bench.process()
    bench.until(lambda: bench.said(), "a begins")
    document = queue.operations().find_one({"_id": queue._document(lost)["_id"]})
    assert document["metadata"]["osv"]["worker"]["pid"] == worker.pid
    bench.work()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    ended = bench.ended(lost)
    assert ended.state == "failed" and "its worker ended" in ended.error
    bench.until(lambda: "hello" in job_log(next_one), "the worker that stood by takes over")
    assert not psutil.pid_exists(document["metadata"]["osv"]["job"]["pid"])
    bench.close()
    assert find_job(next_one).state == "failed" and "the worker was stopped" in find_job(next_one).error
    assert bench.said()[-2:] == ["begin b", "tidied b"] and not worker_alive()


def test_a_worker_of_another_machine_lives_as_long_as_it_is_heard_of(bench: Bench) -> None:
    id = bench.schedule("a")
    elsewhere = {"host": "elsewhere", "pid": 7, "created": "once"}
    assert queue.take_next(elsewhere) is not None
    try:
        assert queue.become_worker(elsewhere) and find_job(id).state == "running"
        silent = queue.utc_now() - datetime.timedelta(seconds=2 * queue.SILENT_S)
        queue.workers().update_one(elsewhere, {"$set": {"beat": silent}})
        assert find_job(id).state == "failed" and "its worker ended" in find_job(id).error
    finally:
        queue.leave_place(elsewhere)
    lost = bench.schedule("b")
    assert queue.take_next(elsewhere) is not None
    assert find_job(lost).state == "failed", "its worker has no place any more, as a container that was replaced"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's own time of birth is kept")
def test_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    me = queue.this_process()
    born = psutil.Process().create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: born + 3600)
    assert queue.is_alive(me) and not queue.is_alive({**me, "created": "earlier"})


def test_a_job_that_ends_while_it_is_cancelled_keeps_how_it_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = bench.schedule("a")
    me = queue.this_process()
    assert queue.take_next(me) is not None
    document = queue._document(id)
    queue.operations().update_one({"_id": document["_id"]}, {"$set": queue.failed("no such moon")})
    monkeypatch.setattr(queue, "_document", lambda *_: document)
    cancel(id)
    monkeypatch.undo()
    assert (find_job(id).state, find_job(id).error) == ("failed", "no such moon")


def test_on_the_command_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    id = bench.schedule("a")

    def osv(*arguments: str) -> Any:
        assert main(["jobs", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert [job["state"] for job in osv("list", bench.dataset)["jobs"]] == ["queued"]
    assert osv("cancel", id)["state"] == "cancelled"
    assert osv("retry", id[-10:])["state"] == "queued"
    with pytest.raises(NotFoundError, match="osv jobs list"):
        find_job("nonsense")
