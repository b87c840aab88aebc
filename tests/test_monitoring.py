"""What Prometheus is given, and what it makes of it: the dashboard's metrics, rules and Grafana's expressions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.dashboard import metrics
from orchestrator.launch import submit
from orchestrator.recipes import load
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.writer import RunWriter
from tests.support.browsing import TOKEN, serving
from tests.support.ceph import free_port
from tests.support.dashboard import Client, ill_run
from tests.support.rays import own_ray, restored_environment, started_head

FOLDER = Path("infra/monitoring")
NAME = re.compile(r"\b(?:ray|ganctl|up)(?:_[a-zA-Z0-9_]+)?\b(?=[{\s)\[]|$)")
KEYWORD = ("ganctl",)  # as a job's name


@pytest.fixture
def objects(file_store: str) -> Objects:
    return open_objects(file_store)


@pytest.fixture(scope="session")
def promtool() -> str:
    """Debian's promtool, of the package prometheus. Skipped where it is not installed, but in CI this fails."""
    found = shutil.which("promtool")
    if found is None and os.environ.get("CI"):
        pytest.fail("CI must check the rules: apt-get install prometheus")
    if found is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    return found


def checked(promtool: str, *words: object) -> tuple[int, str]:
    """How a promtool command ends, and what it says."""
    done = subprocess.run([promtool, *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def running(objects: Objects, **values: Any) -> str:
    writer = RunWriter.create(objects, new_id(), {"name": 'a "name"\\', "family": "vanilla"})
    writer.log(10, {"fid": 12.5, "coverage": 0.5, "images_per_second": 640.0})
    writer.flush()
    writer.heartbeat(force=True, verdict="healthy", figures={"fid": 12.5}, **values)
    return writer.run_id


def values_of(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by metric and by the values of its labels, these in the order of their names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = (
                sample.value
            )
    return found


# --- what is scraped


def test_runs_alarms_and_figures_are_told(objects: Objects) -> None:
    run_id = running(objects)
    ill_run(objects)
    ill_run(objects, verdict="oscillation", sealed=False)
    answer = Client(objects).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    told = values_of(answer.text)
    assert told["ganctl_runs"] == {
        ("running", "healthy"): 1,
        ("running", "oscillation"): 1,
        ("collapsed", "mode collapse"): 1,
    }
    assert told["ganctl_alarms"] == {("mode-collapse",): 1, ("oscillation",): 1}
    assert told["ganctl_run_fid"] == {("vanilla", 'a "name"\\', run_id, ""): 12.5}
    assert told["ganctl_run_step"]["vanilla", 'a "name"\\', run_id, ""] == 10
    assert told["ganctl_store_up"] == {(): 1}
    assert abs(told["ganctl_store_seen_timestamp_seconds"][()] - time.time()) < 60


def test_trials_raise_no_alarm_there(objects: Objects) -> None:
    ill_run(objects, sweep="20261122-014500-k3v9qa")
    told = values_of(Client(objects).get("/metrics").text)
    assert "ganctl_alarms" not in told
    assert sum(told["ganctl_runs"].values()) == 1


def test_only_so_many_runs_have_series(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST", 2)
    ids = sorted(running(objects) for _ in range(3))
    told = values_of(Client(objects).get("/metrics").text)
    assert len(told["ganctl_run_fid"]) == 2
    assert {labels[2] for labels in told["ganctl_run_fid"]} <= set(ids)
    assert sum(told["ganctl_runs"].values()) == 3


def test_a_store_that_is_down_is_told(objects: Objects) -> None:
    running(objects)
    client = Client(objects)
    client.get("/metrics")
    client.app.state.library.down = "it is gone"
    told = values_of(client.ask("GET", "/metrics").text)
    assert told["ganctl_store_up"] == {(): 0}
    assert sum(told["ganctl_runs"].values()) == 1


def test_nobody_scrapes_without_the_token(objects: Objects) -> None:
    client = Client(objects)
    for headers in ({}, {"Authorization": "Bearer nonsense-nonsense"}):
        client.headers = headers
        answer = client.ask("GET", "/metrics")
        assert answer.status_code == 401
        assert "ganctl_" not in answer.text


# --- what Prometheus is told to do


def test_the_configuration_and_the_rules_are_valid(promtool: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "monitoring")
    config = configured(tmp_path / "monitoring", tmp_path / "discovery.json", "127.0.0.1:8080")
    assert checked(promtool, "check", "config", config)[0] == 0
    assert checked(promtool, "check", "config", "--syntax-only", FOLDER / "prometheus.yml")[0] == 0


def test_every_rule_alerts_when_it_should_and_only_then(promtool: str) -> None:
    code, said = checked(promtool, "test", "rules", FOLDER / "rules_test.yml")
    assert code == 0, said
    rules = [
        rule["alert"]
        for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    tried = {
        case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")
    }
    assert tried == set(rules)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("for: 5m # a sweep", "for: 1m # a sweep"),
        ("> 0.97", "> 0.995"),
        ("< max_over_time", "> max_over_time"),
    ],
)
def test_a_rule_that_is_wrong_is_found(promtool: str, tmp_path: Path, right: str, wrong: str) -> None:
    shutil.copy(FOLDER / "rules_test.yml", tmp_path)
    text = (FOLDER / "rules.yml").read_text()
    assert right in text
    (tmp_path / "rules.yml").write_text(text.replace(right, wrong))
    assert checked(promtool, "test", "rules", tmp_path / "rules_test.yml")[0] != 0


def expressions() -> list[str]:
    """Every expression of Grafana's dashboard and of the rules."""
    panels = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return shown + [rule["expr"] for group in groups for rule in group["rules"]]


def test_every_expression_of_the_grafana_dashboard_parses(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(expressions())]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    code, said = checked(promtool, "check", "rules", path)
    assert code == 0, said
    assert f"{len(rules)} rules found" in said
    path.write_text(path.read_text().replace("sum by", "sum buy", 1))
    assert checked(promtool, "check", "rules", path)[0] != 0


def configured(folder: Path, discovery: Path, dashboard: str) -> Path:
    """The configuration, for Ray's `discovery` file, and the dashboard at `dashboard` with the tests' token."""
    token = folder / "token"
    token.write_text(TOKEN)
    text = (folder / "prometheus.yml").read_text()
    for theirs, ours in {
        "/tmp/ray/prom_metrics_service_discovery.json": discovery,
        "/etc/ganctl/token": token,
        "127.0.0.1:8080": dashboard,
        "15s": "1s",
    }.items():
        assert theirs in text
        text = text.replace(theirs, str(ours))
    path = folder / "changed.yml"
    path.write_text(text)
    return path


# --- a real Prometheus


@contextmanager
def prometheus(config: Path) -> Iterator[Callable[[str], list[Any]]]:
    """Prometheus, and how it is asked: the values of an expression."""
    port = free_port()
    words = [f"--config.file={config}", f"--storage.tsdb.path={config.parent}/tsdb"]
    process = subprocess.Popen(
        ["prometheus", *words, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stdin=subprocess.DEVNULL,
    )

    def ask(expr: str) -> list[Any]:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": expr}, timeout=20)
        told = answer.json()
        assert told["status"] == "success", told
        found: list[Any] = told["data"]["result"]
        return found

    try:
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=5).status_code == 200)
        yield ask
    finally:
        process.terminate()
        process.wait(20)


def until(holds: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.5)


def names_in(expr: str) -> set[str]:
    """The metrics that an expression reads."""
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expr))) - set(KEYWORD)


def of_gpus() -> set[str]:
    """What a node with GPUs tells besides, as Ray's own agent names it: this machine has none."""
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    return {f"ray_{name}" for name in METRICS_GAUGES if name.startswith(("node_gpus_", "node_gram_"))}


@pytest.mark.slow
def test_prometheus_scrapes_ray_and_the_dashboard_and_knows_every_metric_that_is_shown(
    promtool: str, file_store: str, tmp_path: Path
) -> None:
    folder = tmp_path / "monitoring"
    shutil.copytree(FOLDER, folder)
    objects = open_objects(file_store)
    long_run = {"gan.width": 16, "data.num": 500, "train.steps": 10**6, "train.log_every": 10}
    long_run |= {"train.evaluate_every": 50, "train.on_collapse": "ignore", "train.checkpoint_every": 10**6}
    with restored_environment(), started_head() as head, serving(objects) as site:
        job = submit(load("vanilla.ring").override(long_run), file_store, head.address)
        discovery = Path(head.folder) / "prom_metrics_service_discovery.json"
        config = configured(folder, discovery, site.url.removeprefix("http://"))
        with prometheus(config) as ask:
            until(lambda: ask('ganctl_runs{state="running"} == 1') and ask("ganctl_run_fid"), 240)
            until(lambda: ask("sum(ray_cluster_active_nodes) == 1") and ask("ray_tasks"), 240)
            wanted = set().union(*map(names_in, expressions()))
            until(lambda: {n for n in wanted - of_gpus() if not ask(n)} <= {"ganctl_alarms"}, 120)
            assert {"ganctl_runs", "ganctl_alarms", "ray_node_gram_used", "up"} <= wanted
            until(lambda: ask("up == 0") == [])  # a scrape may be late on a busy machine
            for expr in expressions():
                ask(expr)  # parses, and joins what can be joined
        job.stop()


@pytest.mark.slow
def test_a_ray_of_our_own_leaves_the_known_ports_of_metrics_to_the_cluster() -> None:
    """Two Rays on one machine: the later one cannot bind, and says that it is where the other one answers."""
    with own_ray():
        for name in ("DashboardMetricsAddress", "AutoscalerMetricsAddress"):
            address = told_by_head(name)
            assert not address.endswith((":44217", ":44227"))
            until(lambda address=address: "# HELP" in httpx.get(f"http://{address}/metrics").text)


def told_by_head(name: str) -> str:
    """What Ray's head has written down under `name`, once it has."""
    from ray.experimental.internal_kv import _internal_kv_get

    until(lambda: _internal_kv_get(name))
    return str(_internal_kv_get(name).decode())
