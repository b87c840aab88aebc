"""The steps of a flow: tasks that may be tried again. A second try goes on with the same run or sweep.

They know nothing of schedules, nor of what a failed run means to the flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from prefect import State, Task, runtime, task
from prefect.client.schemas.objects import TaskRun
from prefect.logging import get_run_logger
from prefect.states import get_state_exception

from orchestrator.errors import (
    AlreadyExists,
    ConditionalWritesMissing,
    GanctlError,
    RayAway,
    RunFailed,
    StoreError,
)
from orchestrator.experiment import parse
from orchestrator.launch import Job, submit
from orchestrator.outcome import outcome_of
from orchestrator.progress import Event, of_run, tell
from orchestrator.store.ids import new_id
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.sweep.driver import run_sweep
from orchestrator.sweep.plan import parse_plan

Document = dict[str, Any]
RetryCondition = Callable[[Task[..., Any], TaskRun, State[Any]], bool]

DELAYS = [10.0, 60.0]  # seconds before the second and the third try


def flow_run() -> str:
    """The id of the flow run we are in; empty outside of one."""
    return str(runtime.flow_run.id or "")


@contextmanager
def let_go(job: Job) -> Iterator[None]:
    """Stop the job where this flow is cancelled or interrupted: what Prefect raises then is no Exception."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        with suppress(GanctlError):  # what cannot be stopped now the reconciler stops
            job.stop()
        raise


class CutOff(RunFailed):
    """A run stopped before its end, with its last checkpoint in the store: the same run can go on."""


def only_after(*errors: type[Exception]) -> RetryCondition:
    """Whether a task failed for one of `errors`, which may pass; what is wrong with the store itself will not."""

    def may_pass(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
        error = get_state_exception(state)
        return isinstance(error, errors) and not isinstance(error, AlreadyExists | ConditionalWritesMissing)

    return may_pass


# The ids are kept as results, so that a flow run that is retried as a whole goes on with its run or sweep, too.
@task(name="begin run", persist_result=True, result_serializer="json")
def begin_run(experiment: Document, store: str, on: str, labels: Document | None = None) -> str:
    """Hand over a new run of `experiment` and return its id. Raises what `submit` raises."""
    return submit(parse(experiment), store, on, **(labels or {})).run_id


@task(name="begin sweep", persist_result=True, result_serializer="json")
def begin_sweep() -> str:
    """The id of a new sweep."""
    return new_id()


@task(
    name="train run",
    task_run_name="train {run_id}",
    retries=len(DELAYS),
    retry_delay_seconds=DELAYS,
    retry_condition_fn=only_after(CutOff, RayAway, StoreError, OSError),
)
def train_run(run_id: str, store: str, on: str) -> Document:
    """Run `run_id` to its end, from its last checkpoint where it has one, and return how it ended."""
    run = Run(open_objects(store), run_id)
    document = run.document()
    if run.sealed() is None:
        get_run_logger().info("run %s of %s on %s, results in %s", run_id, document["name"], on, store)
        try:
            job = submit(parse(document["experiment"]), store, on, run_id=run_id, owner=flow_run())
            with let_go(job):
                job.wait(of_run(document["name"]))
        except RunFailed as error:
            if run.sealed() is None:
                raise CutOff(str(error)) from error
            raise
    outcome = outcome_of(run)
    tell(Event(document["name"], 1.0, outcome.state, end=True))
    return vars(outcome)


@task(
    name="sweep trials",
    task_run_name="sweep {sweep_id}",
    retries=len(DELAYS),
    retry_delay_seconds=DELAYS,
    retry_condition_fn=only_after(RayAway, StoreError, OSError),
)
def run_trials(sweep_id: str, experiment: Document, store: str, plan: Document, on: str) -> Document:
    """Sweep `sweep_id` until its plan is spent. Raises RunFailed where no trial completed."""
    get_run_logger().info("sweep %s of %s on %s, results in %s", sweep_id, experiment["name"], on, store)
    result = run_sweep(
        parse(experiment),
        store,
        parse_plan(plan),
        on=on,
        sweep_id=sweep_id,
        progress=lambda beat: tell(Event(**beat)),
    )
    return vars(result)
