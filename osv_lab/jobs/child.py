"""One job in a process of its own, so that it can be interrupted and killed.

``python -m osv_lab.jobs.child`` gets FiftyOne ready, which takes seconds, and then waits for a line on standard input:
the job's id and, after a tab, the file for all that it prints.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import sys
import traceback
from collections import deque
from typing import Any

from osv_lab.core.errors import OsvError
from osv_lab.store.database import connect

INTERRUPTED = 130


def main() -> int:
    """Run the job that a worker claimed and names; its result, or why it failed, is written to its document."""
    # What a script starts in the background ignores interrupts, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connect()
    from bson import ObjectId
    from fiftyone.operators.delegated import DelegatedOperationService
    from fiftyone.operators.executor import ExecutionResult, ExecutionRunState

    id, _, log = sys.stdin.readline().strip().partition("\t")
    if not id:
        return 0
    with open(log, "ab", buffering=0) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stdout)
    service = DelegatedOperationService()
    document = service.get(ObjectId(id))
    _say(f"{document.label} ({document.operator}) begins")
    try:
        result = _run(service, document)
    except KeyboardInterrupt:
        traceback.print_exc()
        _say("interrupted")
        return INTERRUPTED
    except BaseException as error:  # noqa: BLE001 (whatever ended it is its result)
        traceback.print_exc(file=sys.stdout)
        reason = str(error) if isinstance(error, OsvError) else f"{type(error).__name__}: {error}"
        _say(f"failed: {reason}")
        service.set_failed(document.id, ExecutionResult(error=reason), required_state=ExecutionRunState.RUNNING)
        return 1
    service.set_completed(document.id, result, required_state=ExecutionRunState.RUNNING)
    _say("done")
    return 0


def _run(service: Any, document: Any) -> Any:
    """FiftyOne's own way (``DelegatedOperationService._execute_operator``), but in the main thread: an interrupt must
    reach the work, not the event loop beside it."""
    from fiftyone.operators import executor

    parameters = document.context.request_params
    parameters["run_doc"] = document.id
    if not parameters.get("dataset_id"):
        parameters["dataset_id"] = document.dataset_id
    prepared = asyncio.run(
        executor.prepare_operator_executor(
            operator_uri=document.operator,
            request_params=parameters,
            delegated_operation_id=document.id,
            set_progress=_telling(service),
        )
    )
    if isinstance(prepared, executor.ExecutionResult):
        raise prepared.to_exception()
    operator, _, ctx, _ = prepared
    if document.pipeline:
        failure = asyncio.run(executor.do_execute_pipeline(document.pipeline, ctx))
        if failure:
            raise RuntimeError(failure[1] or failure[0])
        return executor.ExecutionResult()
    with ctx:
        result = operator.execute(ctx)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        if inspect.isgenerator(result):
            deque(result, maxlen=0)
            result = None
    ctx.request_params.update(target="outputs", results=result)
    outputs = asyncio.run(executor.resolve_type_with_context(operator, ctx))
    schema = (
        outputs.to_json() if outputs is not None and not isinstance(outputs, executor.ExecutionResult) else None
    )
    return executor.ExecutionResult(result=result, outputs_schema=schema)


def _telling(service: Any) -> Any:
    """Progress into the document, and what is new of it into the log."""
    last = ""

    def tell(id: Any, progress: Any) -> None:
        nonlocal last
        service.set_progress(id, progress)
        stage = str(progress.label or "").partition(":")[0]
        if stage != last:
            last = stage
            _say(f"{progress.label}")

    return tell


def _say(text: str) -> None:
    sys.stdout.write(f"osv: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
