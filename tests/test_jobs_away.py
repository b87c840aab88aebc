"""A cluster whose head was killed and started anew, as whoever waits for its jobs sees it: a real head, twice."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlsplit

import pytest

from orchestrator.errors import RayAway
from orchestrator.launch import submit
from orchestrator.owners import free, owned
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from tests.support.rays import restored_environment, started_head
from tests.test_runs_stop import endless, under_way, until

OWNER = "5e0f8c1e-7a0a-4e0c-9b5e-1f6f3f5b6c7d"


@pytest.mark.slow
def test_a_head_that_was_started_anew_has_forgotten_its_jobs_and_their_runs_go_on(file_store: str) -> None:
    objects, told = open_objects(file_store), []
    with restored_environment():
        with started_head() as head:
            job = submit(endless(**{"train.checkpoint_every": 10}), file_store, head.address, owner=OWNER)
            run = Run(objects, job.run_id)

            def wait() -> None:
                try:
                    job.wait()
                except Exception as error:
                    told.append(error)

            waiting = threading.Thread(target=wait)
            waiting.start()
            until(lambda: bool(run.checkpoints()))
        with started_head(int(urlsplit(head.address).port or 0)):
            waiting.join(120)
            assert [type(error) for error in told] == [RayAway]
            assert str(told[0]).endswith(f"`ganctl train --resume {run.id}` goes on")
            assert free(objects, OWNER) == [run.id]
            assert run.state() == "stopped"
            assert list(owned(objects)) == [], "what was freed is not freed again"

            again = submit(endless(), file_store, head.address, run_id=run.id)
            until(lambda: (run.live() or {}).get("attempt") == 2)
            under_way(run)
            again.stop()


def test_a_job_that_no_agent_can_take_is_refused_with_the_way_out(
    file_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another Ray has its agent's port. Ray itself asks for 20 s, hence its answer in words here."""
    from ray.job_submission import JobSubmissionClient

    def no_agent(*_: Any, **__: Any) -> str:
        raise RuntimeError("Request failed with status code 500: No available agent to submit job.")

    monkeypatch.setattr(JobSubmissionClient, "__init__", lambda *_: None)
    monkeypatch.setattr(JobSubmissionClient, "submit_job", no_agent)
    with pytest.raises(RayAway, match="ray start --dashboard-agent-listen-port=0"):
        submit(endless(), file_store, "http://127.0.0.1:8265")
