"""Runs as jobs of a remote Ray cluster, through Ray's Jobs API. Every import of Ray is inside a function."""

from __future__ import annotations

import os
import shlex
import sys
import time
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.errors import ConfigError, NotFound, RunFailed
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.worker import Outcome, outcome_of

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from orchestrator.launch import Progress

POLL_SECONDS = 0.5
HERE = ("localhost", "127.0.0.1", "::1")


def connect(address: str, objects: Objects) -> JobSubmissionClient:
    """A client of the cluster at `address`, which has answered.

    Raises NotFound where no Ray answers, ConfigError where the cluster cannot see the store or wants a token.
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
        raise NotFound(
            f"no Ray dashboard answers at {address}: is the head up, and is the port 8265?"
        ) from error


class ClusterJob:
    """The run as a job. Ray refuses a submission id that was used before, so of two submitters one attaches."""

    def __init__(self, client: JobSubmissionClient, address: str, objects: Objects, run_id: str) -> None:
        self.client, self.address, self.objects, self.run_id = client, address, objects, run_id
        self.submission_id = self._submit()

    def wait(self, progress: Progress | None = None) -> Outcome:
        run = Run(self.objects, self.run_id)
        while True:
            status = self.client.get_job_status(self.submission_id)
            beat = run.live()
            if progress is not None and beat is not None:
                progress(beat)
            if status.is_terminal():
                break
            time.sleep(POLL_SECONDS)
        sealed = run.sealed()
        if sealed is None:
            raise RunFailed(
                f"run {self.run_id} ended as {status} on {self.address} ({self._last_words()}); "
                f"`ganctl train --resume {self.run_id}` goes on"
            )
        if sealed["state"] == "failed":
            raise RunFailed(f"run {self.run_id} failed: {sealed.get('error')}")
        return outcome_of(run)

    def stop(self) -> None:
        """Stop the job and wait until Ray says that it is over."""
        self.client.stop_job(self.submission_id)
        while not self.client.get_job_status(self.submission_id).is_terminal():
            time.sleep(POLL_SECONDS)

    def _submit(self) -> str:
        """Hand the run over, or find the job that has it. A job that ended without ending the run is followed by
        `<run id>-2`, and so on."""
        for attempt in count(1):
            submission_id = self.run_id if attempt == 1 else f"{self.run_id}-{attempt}"
            try:
                self.client.submit_job(
                    entrypoint=self._command(),
                    submission_id=submission_id,
                    runtime_env={"env_vars": _credentials()},
                    metadata={"ganctl_run": self.run_id},
                )
                return submission_id
            except RuntimeError as error:
                if "already exists" not in str(error):
                    said = " ".join(str(error).split())[:300]
                    raise RunFailed(f"{self.address} refused the job: {said}") from error
            if not self.client.get_job_status(submission_id).is_terminal():
                return submission_id
        raise AssertionError

    def _command(self) -> str:
        # This very Python where the cluster has it (one machine, one image), else the one on its path.
        python = f'"$(command -v {shlex.quote(sys.executable)} || echo python)"'
        words = ["train", "--resume", self.run_id, "--store", self.objects.url, "--on", "auto"]
        return f"{python} -m orchestrator.cli {shlex.join(words)}"

    def _last_words(self) -> str:
        """The line of the job's log that says why it ended, as far as there is one."""
        lines = [line for line in self.client.get_job_logs(self.submission_id).splitlines() if line.strip()]
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines
        return said[-1][:300] if said else "no log"


def _credentials() -> dict[str, Any]:
    """The store's settings travel in the job's environment; nothing writes them to the store."""
    return {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
