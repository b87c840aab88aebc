"""schemathesis on the dashboard's API, over a real socket: what its OpenAPI document says is so, whatever is asked."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.dashboard import journal, security
from orchestrator.dashboard.launching import form
from orchestrator.dashboard.openapi import document
from orchestrator.registry import Candidate, Registry
from orchestrator.store.ids import new_id
from orchestrator.store.layout import deck_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.writer import RunWriter
from tests.support.browsing import TOKEN, serving
from tests.support.dashboard import ill_run
from tests.support.models import bare_run
from tests.support.sweeps import make_sweep

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "negative_data_rejection"),
    *("positive_data_acceptance", "missing_required_header", "unsupported_method", "ignored_auth"),
)
EXAMPLES, SEED = 12, 20261125
JUDGED = ("/api/models/{name}/promote", "/api/rate/{id}")  # against what there is: 400 for a number beyond it
HALF = 0.5  # of the examples name what there is


def picture() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8)).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_objects(str(tmp_path / "store"))


@pytest.fixture
def known(objects: Objects) -> dict[str, dict[str, list[str]]]:
    """A store with something of everything. Path (a regular expression) → parameter → values that are there."""
    sweep = make_sweep(objects.url, trials=12, objectives=("fid", "coverage"))
    ill, bare, deck = ill_run(objects), bare_run(objects), new_id()
    Registry(objects).promote("faces", Candidate(bare), 0, "<b>")
    writer = RunWriter.create(objects, new_id(), {"name": "</script>", "family": "vanilla", "seed": 3})
    writer.log(1, {"fid": 2.0, "loss_d": float("nan"), "verdict": "healthy"})
    writer.sample(1, picture())
    writer.seal("failed", {"error": "</script>"})
    cards, data = np.zeros((4, 8, 8, 1), np.uint8), io.BytesIO()
    np.savez_compressed(data, images=cards, real=np.array([True, True, False, False]), step=4)
    objects.create(deck_key(bare, deck), data.getvalue())
    runs = [ill, bare, writer.run_id]
    return {
        r"^/api/runs/\\{id\\}": {"path.id": runs},
        r"/samples/": {"path.step": ["0", "1"]},
        r"^/api/compare": {"query.runs": [ill, ",".join(runs)]},
        r"^/api/sweeps/": {"path.id": [sweep.id]},
        r"^/api/models/": {"path.name": ["faces"], "body.run": runs},
        r"^/api/alarms/": {"path.alarm": [f"{ill}.mode-collapse"]},
        r"^/api/rate/\\{id\\}(?!/deck)": {"path.id": [bare], "path.deck": [deck], "body.deck": [deck]},
        r"^/api/launch/schema": {"query.recipe": ["vanilla.ring"]},
    }  # a new deck and a launch take processes with PyTorch: only what is not there is asked for


def config(known: dict[str, dict[str, list[str]]]) -> str:
    """schemathesis.toml: who asks, and what there is."""
    lines = [
        "max-stream-events = 1",
        "request-timeout = 60.0",
        "[headers]",
        f'Authorization = "Bearer {TOKEN}"',
    ]
    lines += ["[checks.negative_data_rejection]", 'expected-statuses = ["4xx"]']
    for path in JUDGED:
        lines += [
            "[[operations]]",
            f'include-path = "{path}"',
            "[operations.checks.positive_data_acceptance]",
        ]
        lines.append('expected-statuses = ["2xx", "4xx"]')
    for path, parameters in known.items():
        lines += ["[[operations]]", f'include-path-regex = "{path}"', "[operations.parameters]"]
        for name in parameters:
            named = f"{path}-{name}".encode().hex()
            lines.append(f'"{name}" = {{ dictionary = "{named}", probability = {HALF} }}')
    for path, parameters in known.items():
        for name, values in parameters.items():
            lines += [f"[dictionaries.{f'{path}-{name}'.encode().hex()}]", f"values = {values}"]
    return "\n".join(lines)


@pytest.mark.slow
def test_the_api_is_what_its_document_says(
    objects: Objects, known: dict[str, dict[str, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "GUESSES", 10**9)  # that wrong tokens are refused is asked often
    told = tmp_path / "schemathesis.toml"
    told.write_text(config(known))
    options = {"--checks": ",".join(CHECKS), "--max-examples": EXAMPLES, "--seed": SEED, "--max-failures": 20}
    options |= {"--phases": "examples,coverage,fuzzing", "--generation-database": "none", "--warnings": "off"}
    words = [str(word) for pair in options.items() for word in pair]
    form("")  # a process with PyTorch tells the recipes
    with serving(objects, rate=1e6, burst=10**9) as site:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(told), "--no-color", "run"]
        command += [f"{site.url}/api/openapi.json", *words, "--no-shrink"]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-2000:]
    operations = sum(map(len, document(site.app.routes)["paths"].values()))
    assert f"Tested: {operations - 1}" in ended.stdout  # the document itself is not asked for again
    done = {row["what"] for row in journal.newest(objects, most=10_000) if row["status"] == 200}
    assert "acknowledge" in done  # it reached beyond what is refused
