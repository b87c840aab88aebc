"""A Ray instance for the time of one call, and what fits on it. Every import of Ray is inside a function.

`local` starts an instance of our own and ends it; `auto` joins the cluster this process runs in (a job submitted
through the Jobs API) and leaves it running.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import NotFound, ResourceError
from orchestrator.experiment import Scale

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "25",  # then an elastic group begins with fewer; launch.WAITS
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # at Ray's 15, ranks that wait for each other starve on a shared machine
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


GROUP_HEAD_BYTES = 1.5e9  # what the head holds for one data-parallel trial of a sweep, besides its workers


@dataclass(frozen=True)
class Capacity:
    """What a cluster has in all; `head_memory` (bytes) is what is free on the machine of the driver."""

    cpus: float
    gpus: float
    head_memory: float = math.inf
    nodes: int = 1

    def require(self, scale: Scale, driver: str = "") -> None:
        """Raise ResourceError, with the arithmetic, where `scale` can never fit."""
        gpus = self.gpus_for(scale)
        need_cpu, need_gpu = scale.workers * scale.cpus_per_worker, scale.workers * gpus
        lacks = []
        if need_cpu > self.cpus:
            lacks.append(
                f"{scale.workers} workers x {scale.cpus_per_worker:g} CPU = {need_cpu:g} CPUs, there are {self.cpus:g}"
            )
        if need_gpu > self.gpus:
            lacks.append(
                f"{scale.workers} workers x {gpus:g} GPU = {need_gpu:g} GPUs, there are {self.gpus:g}"
            )
        if (scale.nodes or 1) > self.nodes:
            lacks.append(f"{scale.nodes} machines (scale.nodes), there are {self.nodes}")
        if lacks:
            raise ResourceError(f"{'; '.join(lacks)}: lower scale.workers or what each takes{driver}")

    def gpus_for(self, scale: Scale) -> float:
        """GPUs a worker takes: as asked, else one where there are any."""
        if scale.gpus_per_worker is not None:
            return scale.gpus_per_worker
        return 1.0 if self.gpus else 0.0

    def concurrent(self, scale: Scale) -> int:
        """How many groups of `scale` fit at once; at least one, or ResourceError.

        One worker is one process. A group has a driver besides, a controller and a cleaner, all on the head.
        """
        self.require(scale)
        fit = [self.cpus // (scale.most * scale.cpus_per_worker)]
        if gpus := self.gpus_for(scale) * scale.most:
            fit.append(self.gpus // gpus)
        if scale.workers > 1:
            fit.append(self.head_memory // GROUP_HEAD_BYTES)
        return max(1, int(min(fit)))


def local_capacity() -> Capacity:
    """What this machine would give a Ray instance of its own."""
    import torch

    return Capacity(float(len(os.sched_getaffinity(0))), float(torch.cuda.device_count()))


@contextmanager
def connected(on: str = "local") -> Iterator[Capacity]:
    """Ray, initialised: `local` for an instance of our own, `auto` for the cluster we are in."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if on == "local" and not _started():
        _secure()
    import ray

    if ray.is_initialized():
        yield _capacity()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _start(on)
            yield _capacity()
        finally:
            ray.shutdown()


def _started() -> bool:
    """Whether Ray runs in this process already: what its connections use may not be changed any more."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _start(on: str) -> None:
    """`ray.init`. Raises NotFound where there is no cluster around us to join."""
    import ray

    if on == "auto" and "RAY_ADDRESS" not in os.environ:  # a job has it; else Ray looks for anybody's cluster
        raise NotFound(
            "--on auto: this process is not in a Ray cluster; use --on local, or --on http://HEAD:8265"
        )
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    environment = _worker_environment()
    if on == "local":
        capacity, port = local_capacity(), _free_port()
        os.environ |= metric_ports()
        options |= {"num_cpus": int(capacity.cpus), "include_dashboard": True, "dashboard_port": port}
        # Else what cleans up after a group whose driver died looks for any Ray on this machine, and gives up at two.
        environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
        if folder := os.environ.get("GANCTL_RAY_TMP"):
            options["_temp_dir"] = folder
    else:
        environment["RAY_ADDRESS"] = os.environ["RAY_ADDRESS"]  # for the same cleaner
    options["runtime_env"] = {"env_vars": environment}
    try:
        with _uninterrupted():
            ray.init(address=on, **options)
    except ConnectionError as error:
        raise NotFound(f"no Ray cluster answers at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}") from error


def metric_ports() -> dict[str, str]:
    """Free ports for the metrics of a head's own, as its environment has them: of the known ones, 44217 and 44227, a
    machine has only one each, whatever the number of its heads."""
    return {name: str(_free_port()) for name in ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold the first Ctrl-C back: `ray.init` cut short leaves an agent behind that lives on for a minute."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: object) -> None:
        if held:
            raise KeyboardInterrupt
        held.append(number)

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            raise KeyboardInterrupt


def _worker_environment() -> dict[str, str]:
    """What workers must share with us: quietness, threads, and where our modules are found."""
    here = [p for p in sys.path if p]
    env = {"PYTHONPATH": os.pathsep.join([*here, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
    env |= {name: os.environ[name] for name in QUIET}
    env |= {k: v for k, v in os.environ.items() if k.startswith(("AWS_", "GLOO_", "NCCL_"))}
    return env | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def _secure() -> None:
    """Token authentication with a token of our own, unless the environment says otherwise.

    Left to itself `ray.init` writes a token file that any user of the machine can read. Ray reads the mode once,
    when it is first imported, so this comes before that and stays for the life of the process; where Ray is there
    already, it reads it again (as ray/_private/authentication_test_utils.py does).
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="ganctl-auth-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "token")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": path}
    if "ray" in sys.modules:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


def _capacity() -> Capacity:
    import psutil
    import ray

    total = ray.cluster_resources()
    free = psutil.virtual_memory().available
    nodes = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
    return Capacity(total.get("CPU", 0.0), total.get("GPU", 0.0), float(free), nodes)
