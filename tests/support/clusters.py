"""A Ray cluster of several nodes on this machine, which can lose one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from tests.support.ceph import free_port
from tests.support.rays import nothing_left, restored_environment, short_folder, token

QUICK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
}


@contextmanager
def simulated_cluster(nodes: int, cpus: float = 1) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of so many nodes, `cpus` on each, that this process is connected to by
    `--on auto`. Nodes are added and removed in the main thread."""
    from ray.cluster_utils import Cluster

    from orchestrator.cluster import connected

    token()
    with restored_environment(), short_folder() as folder:
        os.environ.pop("RAY_ADDRESS", None)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        dashboard = {"include_dashboard": True, "dashboard_port": free_port()}
        head = {"num_cpus": cpus, "temp_dir": folder, "_system_config": QUICK, **dashboard}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(nodes - 1):
                cluster.add_node(num_cpus=cpus, temp_dir=folder)
            os.environ["RAY_ADDRESS"] = cluster.address
            with connected("auto"):
                yield cluster
        finally:
            cluster.shutdown()
            nothing_left(folder)


def workers_of(node: Any) -> dict[int, str]:
    """The titles of a node's processes by pid, `ray::...`: Ray sets them to what they work at."""
    [raylet] = node.all_processes["raylet"]
    children = psutil.Process(raylet.process.pid).children()
    return {child.pid: " ".join(child.cmdline()) for child in children}
