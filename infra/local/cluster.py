"""One head, N hosts and an S3 server, each with an address of its own, on one bridge of this machine.

What there is stands in `cluster.json` in the cluster's folder, which also holds the hosts' logs and the token.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from infra.local import host, network
from infra.local.ceph import (
    ACCESS_KEY,
    BUCKET,
    PORT,
    REGION,
    SECRET_KEY,
    S3Server,
    has_bucket,
    missing_programs,
)
from infra.local.host import Host

CHECKOUT = Path(__file__).parents[2]
HEAD, STORE = "head", "store"
MACHINE, FIRST_HOST = 1, 11  # the last number of this machine's address, and of the first host's
FIXED = {HEAD: 2, STORE: 3}
GCS, DASHBOARD = 6379, 8265
OBJECT_STORE_BYTES = 100_000_000
PATIENCE_S = 180.0

# A host that does not answer for 3 s is dead; Ray's own patience is a minute (docs/cluster.md).
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_JOB_STOP_WAIT_TIME_S": "20",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GLOO_SOCKET_IFNAME": network.INTERFACE,
    "NCCL_SOCKET_IFNAME": network.INTERFACE,
}


class ClusterError(Exception):
    """What a person did or lacks, in one line with the way out."""


def missing() -> str:
    """Why this process cannot make a cluster; empty where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root: run as root, or with sudo"
    programs = [name for name in ("ip", "unshare", "hostname", "mount") if shutil.which(name) is None]
    if programs := [*programs, *missing_programs()]:
        packages = "iproute2 util-linux ceph-mon ceph-osd radosgw ceph-common"
        return f"not installed: {', '.join(programs)} (apt-get install {packages})"
    tried = subprocess.run([*host.UNSHARE, "true"], capture_output=True, text=True)
    if tried.returncode:
        return (
            f"no namespaces here ({tried.stderr.strip()}): a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN"
        )
    return ""


@dataclass
class Cluster:
    """The cluster whose state lies in `folder`. Every change is written down at once."""

    folder: Path
    subnet: str
    cpus: int
    hosts: dict[str, Host] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Cluster:
        """The cluster of `folder`. Raises ClusterError where there is none."""
        try:
            told = json.loads((folder / "cluster.json").read_text())
        except FileNotFoundError:
            raise ClusterError(f"there is no cluster in {folder}; `up` makes one") from None
        hosts = {name: Host(**document) for name, document in told["hosts"].items()}
        return cls(folder, told["subnet"], told["cpus"], hosts)

    @classmethod
    def up(cls, folder: Path, hosts: int = 2, cpus: int = 1, token: str = "") -> Cluster:
        """Bring a cluster up; it has answered, with every host alive. What is there stays, and what lacks is added.

        Ray's `token` is a new one unless it is given. Raises ClusterError where it did not come up; the logs stay.
        """
        if reason := missing():
            raise ClusterError(reason)
        if (folder / "cluster.json").exists():
            there = cls.load(folder)
            if there.alive(STORE):
                there._complete(hosts)
                return there
            there._end()
        elif folder.exists() and any(folder.iterdir()):
            raise ClusterError(f"{folder} holds something else: name an empty folder with --state")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        cluster = cls(folder, network.free_subnet(str(folder)), cpus)
        try:
            cluster._begin(token or secrets.token_hex(32))
            cluster._complete(hosts)
        except BaseException:
            cluster._end()
            raise
        return cluster

    def down(self) -> None:
        """End exactly what `up` and `add` began, and remove the folder."""
        self._end()
        shutil.rmtree(self.folder)

    def add(self) -> Host:
        """A host more: the head or a host that was killed, back at its address, or a new one. It has joined."""
        name = self._next_name()
        self._join([name])
        return self.hosts[name]

    def kill(self, name: str) -> None:
        """A power cut: every process of the host ends, and its cable is gone."""
        self._host(name).kill()

    def cut(self, name: str) -> None:
        """Pull the host's cable: it runs on, and nothing reaches it."""
        network.set_cable(self._host(name).cable, False)

    def heal(self, name: str) -> None:
        """Put the host's cable back. Ray on a host that was given up meanwhile starts anew."""
        network.set_cable(self._host(name).cable, True)

    def alive(self, name: str) -> bool:
        return name in self.hosts and self.hosts[name].process is not None

    def address(self, name: str) -> str:
        """The address of a host that is there or will be."""
        number = FIXED.get(name) or FIRST_HOST - 1 + int(name.removeprefix("host"))
        return f"{self.subnet}.{number}"

    @property
    def bridge(self) -> str:
        # An interface's name has at most 15 letters; two clusters have two folders.
        return f"gan{hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:6]}"

    @property
    def head(self) -> str:
        """Where the Jobs API answers."""
        return f"http://{self.address(HEAD)}:{DASHBOARD}"

    @property
    def s3(self) -> S3Server:
        return S3Server(f"http://{self.address(STORE)}:{PORT}", ACCESS_KEY, SECRET_KEY, REGION)

    @property
    def store(self) -> str:
        """The results store on the cluster's S3 server."""
        return f"s3://{BUCKET}/results"

    def environment(self) -> dict[str, str]:
        """What a client on this machine needs in its environment."""
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._token)}
        return token | self.s3.environment()

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Ray's view: what it tells of every node it has known, by id. Empty while the head is silent."""
        try:
            token = {"Authorization": f"Bearer {self._token.read_text()}"}
            request = urllib.request.Request(f"{self.head}/api/v0/nodes?limit=1000", headers=token)
            with urllib.request.urlopen(request, timeout=5) as answer:
                rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {row["node_id"]: row for row in rows}

    def status(self) -> list[tuple[str, str, str, str, float]]:
        """(name, address, up | cut | ended, Ray's view, GB of memory) of every host."""
        rows = sorted(self.nodes().values(), key=lambda row: str(row["state"]), reverse=True)
        views = {row["node_ip"]: row["state"].lower() for row in rows}  # DEAD, then ALIVE
        plugged = network.cables(self.bridge)
        told = []
        for h in self.hosts.values():
            state = "ended" if h.process is None else "up" if plugged.get(h.cable) else "cut"
            told.append((h.name, h.address, state, views.get(h.address, "-"), h.memory() / 1e9))
        return told

    def _begin(self, token: str) -> None:
        self._save()
        with open(os.open(self._token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(token)
        for path in (self.folder, self._token):  # whoever called sudo talks to the cluster
            os.chown(path, int(os.environ.get("SUDO_UID", -1)), int(os.environ.get("SUDO_GID", -1)))
        network.remove(*network.cables(self.bridge), self.bridge)
        network.lay_bridge(self.bridge, f"{self.subnet}.{MACHINE}")
        serve = [sys.executable, "-m", "infra.local.ceph"]
        self._start(STORE, [*serve, self.address(STORE), "/tmp/ray/ceph"])

    def _complete(self, hosts: int) -> None:
        if not self.alive(HEAD):
            self._join([HEAD])
        self._until(HEAD, lambda: bool(self.nodes()))
        names = [f"host{number}" for number in range(1, hosts + 1)]
        self._join([name for name in names if not self.alive(name)])
        self._until(STORE, lambda: has_bucket(self.s3, BUCKET))

    def _join(self, names: list[str]) -> None:
        """Start hosts, and wait until Ray counts them in."""
        before = self.nodes().keys()

        def joined(name: str) -> bool:
            new = [row for node, row in self.nodes().items() if node not in before]
            return any(row["node_ip"] == self.address(name) and row["state"] == "ALIVE" for row in new)

        for name in names:
            self._start(name, self._ray(name))
        for name in names:
            self._until(name, partial(joined, name))

    def _ray(self, name: str) -> list[str]:
        ray = str(Path(sys.executable).with_name("ray"))
        head = ["--head", f"--port={GCS}", f"--dashboard-port={DASHBOARD}", "--dashboard-host=0.0.0.0"]
        role = [*head, "--num-cpus=0"]
        if name != HEAD:
            role = [f"--address={self.address(HEAD)}:{GCS}", f"--num-cpus={self.cpus}"]
        own = [f"--node-ip-address={self.address(name)}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        return [ray, "start", "--block", "--disable-usage-stats", *own, *role]

    def _start(self, name: str, command: list[str]) -> None:
        foreign = ("RAY_", "AWS_", "GLOO_", "NCCL_", "GANCTL_STORE")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        environment |= {"PATH": path, "PYTHONPATH": str(CHECKOUT), "RAY_AUTH_TOKEN_PATH": str(self._token)}
        cable = f"{self.bridge}-{self.address(name).rpartition('.')[2]}"
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        self.hosts[name] = host.start(
            name, self.address(name), cable, folder, command, environment | SETTINGS
        )
        self._save()
        network.lay_cable(self.bridge, cable, self.address(name), self.hosts[name].first)

    def _until(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait for a host. Raises ClusterError with the end of its log where it ended or took too long."""
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if not self.alive(name) or time.monotonic() > deadline:
                log = self.folder / name / "log"
                end = " ".join(log.read_text(errors="replace").split())[-800:]
                raise ClusterError(f"{name} did not come up (log {log}): {end}")
            time.sleep(0.2)

    def _next_name(self) -> str:
        if not self.alive(HEAD):
            return HEAD
        number = 1
        while self.alive(f"host{number}"):
            number += 1
        return f"host{number}"

    def _host(self, name: str) -> Host:
        if not self.alive(name):
            living = [n for n in self.hosts if self.alive(n)]
            raise ClusterError(f"no host {name!r} is up; there are: {', '.join(living) or 'none'}")
        return self.hosts[name]

    def _end(self) -> None:
        for h in self.hosts.values():
            h.kill()
        network.remove(*network.cables(self.bridge), self.bridge)
        self.hosts = {}
        self._save()

    def _save(self) -> None:
        document = {
            "subnet": self.subnet,
            "cpus": self.cpus,
            "hosts": {name: asdict(h) for name, h in self.hosts.items()},
        }
        written = self.folder / "cluster.json.new"
        written.write_text(json.dumps(document, indent=1))
        written.replace(self.folder / "cluster.json")

    @property
    def _token(self) -> Path:
        return self.folder / "token"
