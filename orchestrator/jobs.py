"""Runs and sweeps as jobs of a remote Ray cluster, through Ray's Jobs API. Every import of Ray is inside a function."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.driving import hand_over
from orchestrator.errors import ConfigError, RayAway, RunFailed
from orchestrator.outcome import Outcome, ended, left_by
from orchestrator.runlog import keep
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run

if TYPE_CHECKING:
    from ray.job_submission import JobStatus, JobSubmissionClient

    from orchestrator.launch import Progress

POLL_SECONDS = 0.5
SILENCE_SECONDS = 30.0  # of a head, until whoever waits for its job gives it up
NO_AGENT = "No available agent"  # the Jobs API's words while, or because, nothing there can take a job
HERE = ("localhost", "127.0.0.1", "::1")


def connect(address: str, objects: Objects) -> JobSubmissionClient:
    """A client of the cluster at `address`, which has answered.

    Raises RayAway where no Ray answers, ConfigError where the cluster cannot see the store or wants a token.
    """
    if objects.local_path("runs") is not None and urlsplit(address).hostname not in HERE:
        raise ConfigError(
            f"store {objects.url} is a folder of this machine, which {address} cannot see: use s3://"
        )
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ConfigError(
            f"{address} refuses us without its token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, requests.exceptions.RequestException) as error:
        raise RayAway(
            f"no Ray dashboard answers at {address}: is the head up, and is the port 8265?"
        ) from error


def status_of(client: JobSubmissionClient, submission_id: str) -> JobStatus | None:
    """The state of a job; None where the cluster knows none of that id, as after its head was started anew.

    Raises RayAway where it does not say.
    """
    import requests

    try:
        return client.get_job_status(submission_id)
    except RuntimeError as error:  # what Ray's client makes of any answer but 200
        if "status code 404" in str(error):
            return None
        raise RayAway(f"Ray does not say how job {submission_id} is: {_line(error)}") from error
    except (OSError, requests.exceptions.RequestException) as error:
        raise RayAway(f"no Ray answers that had job {submission_id}: {_line(error)}") from error


class Submission:
    """`ganctl` words as a job called `name`. Ray refuses a submission id that was used before, so of two submitters
    one attaches. A job that ended without ending its work is followed by `<name>-2`, and so on. `owner` is who answers
    for it, in its metadata."""

    def __init__(
        self, client: JobSubmissionClient, address: str, name: str, words: list[str], owner: str = ""
    ) -> None:
        self.client, self.address, self.name, self.words, self.owner = client, address, name, words, owner
        self.submission_id = self._submit()

    def wait(self, tick: Callable[[], None]) -> JobStatus:
        """The state the job ended in; `tick` is called meanwhile.

        Raises RayAway where the cluster has forgotten the job, or says nothing for half a minute.
        """
        heard = time.monotonic()
        goes_on = f"`ganctl {shlex.join(self.words[:3])}` goes on"
        while True:
            try:
                status = status_of(self.client, self.submission_id)
                heard = time.monotonic()
            except RayAway as error:
                if time.monotonic() - heard > SILENCE_SECONDS:
                    raise RayAway(f"{error}; {goes_on}") from error
            else:
                if status is None:
                    raise RayAway(
                        f"{self.address} has forgotten job {self.submission_id}: started anew? {goes_on}"
                    )
                if status.is_terminal():
                    tick()
                    return status
            tick()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop the job and wait until Ray says that it is over. Raises RayAway where it says nothing."""
        if status_of(self.client, self.submission_id) is not None:
            self.client.stop_job(self.submission_id)
            self.wait(lambda: None)

    def log(self) -> str:
        """What the job printed, as long as its cluster is there."""
        return self.client.get_job_logs(self.submission_id)

    def last_words(self) -> str:
        """The line of the job's log that says why it ended, as far as there is one."""
        lines = [line for line in self.log().splitlines() if line.strip()]
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines
        return said[-1][:300] if said else "no log"

    def _submit(self) -> str:
        for attempt in count(1):
            submission_id = self.name if attempt == 1 else f"{self.name}-{attempt}"
            try:
                self.client.submit_job(
                    entrypoint=self._command(),
                    submission_id=submission_id,
                    runtime_env={"env_vars": _credentials()},
                    metadata={"ganctl": self.name, "owner": self.owner},
                )
                return submission_id
            except RuntimeError as error:
                if "already exists" not in str(error):
                    said = _line(error)
                    if NO_AGENT in said:
                        raise RayAway(
                            f"{self.address} takes no job: {said} Where that stays so, another Ray on its machine has "
                            "its agent's port: `ray start --dashboard-agent-listen-port=0`"
                        ) from error
                    raise RunFailed(f"{self.address} refused the job: {said}") from error
            if not self.client.get_job_status(submission_id).is_terminal():
                return submission_id
        raise AssertionError

    def _command(self) -> str:
        # This very Python where the cluster has it (one machine, one image), else the one on its path.
        python = f'"$(command -v {shlex.quote(sys.executable)} || echo python)"'
        return f"{python} -m orchestrator.cli {shlex.join([*self.words, '--on', 'auto'])}"


class ClusterJob:
    """A run as a job of a cluster, under the `submission` that run.json names, else under its own id."""

    def __init__(
        self, client: JobSubmissionClient, address: str, objects: Objects, owner: str, run_id: str
    ) -> None:
        self.objects, self.run_id = objects, run_id
        words = ["train", "--resume", run_id, "--store", objects.url]
        name = str(Run(objects, run_id).document().get("submission", run_id))
        self.submission = Submission(client, address, name, words, owner)
        driver = {"on": address, "submission": self.submission.submission_id, "owner": owner}
        hand_over(objects, run_id, driver)

    def wait(self, progress: Progress | None = None) -> Outcome:
        run = Run(self.objects, self.run_id)

        def tick() -> None:
            beat = run.live()
            if progress is not None and beat is not None:
                progress(beat)

        status = self.submission.wait(tick)
        if run.sealed() is None and left_by(run) is None:
            keep(self.objects, self.run_id, "job", self.submission.log())
            raise RunFailed(
                f"run {self.run_id} ended as {status} on {self.submission.address} ({self.submission.last_words()}); "
                f"`ganctl train --resume {self.run_id}` goes on"
            )
        return ended(run)

    def stop(self) -> None:
        self.submission.stop()


class JobDriver:
    """The job that drives a run, as one who only knows its submission id sees it."""

    def __init__(self, address: str, submission_id: str, objects: Objects) -> None:
        self.client, self.submission_id = connect(address, objects), submission_id

    def over(self) -> bool:
        """Whether the job has ended, or went with the head that knew it."""
        status = status_of(self.client, self.submission_id)
        return status is None or status.is_terminal()

    def end(self, deadline: float) -> bool:
        """Have Ray end the job: SIGTERM, then SIGKILL."""
        self.client.stop_job(self.submission_id)
        while not (over := self.over()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return over


def _line(error: Exception) -> str:
    """What an error says, as one line."""
    return " ".join(str(error).split())[:300]


def _credentials() -> dict[str, Any]:
    """Settings of store and ledger travel in the job's environment; nothing writes them to the store."""
    return {k: v for k, v in os.environ.items() if k.startswith("AWS_") or k == "GANCTL_LEDGER"}
