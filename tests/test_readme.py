"""What the README and docs/own.md tell a person to type really works."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from orchestrator.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
QUICK = "train.steps=20 train.log_every=10 train.batch=32 train.evaluate_samples=64"


def commands(text: str) -> list[str]:
    """Every `ganctl` line of the shell blocks, without its comment."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("ganctl ")]


def python_blocks(text: str) -> dict[str, str]:
    """Python blocks that begin with a comment naming their file."""
    blocks = re.findall(r"```python\n(# (\w+\.py)\n.*?)```", text, re.DOTALL)
    return {name: block for block, name in blocks}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's modules and data, where a person would stand."""
    for name, block in (python_blocks(README) | python_blocks((ROOT / "docs/own.md").read_text())).items():
        (tmp_path / name).write_text(block)
    photos = [(0, 64, 128), (255, 0, 0), (9, 9, 9)] * 40
    (tmp_path / "photos").mkdir()
    encoded = []
    for i, colour in enumerate(photos):
        image = Image.new("RGB", (40, 36), (colour[0], colour[1], i))
        image.save(tmp_path / "photos" / f"{i}.png")
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    pq.write_table(pa.table({"image": encoded}), tmp_path / "train.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANCTL_STORE", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def ganctl(line: str) -> str:
    """Run a line in this process, on one thread; its stdout."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
    finally:
        torch.set_num_threads(before)
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return result.stdout


def test_every_launching_command_resolves(home: Path) -> None:
    starts = ("train", "sweep")
    looking = ("show", "ls", "stop", "resume")
    launching = [c for c in commands(README) if c.split()[1] in starts and c.split()[2] not in looking]
    assert len(launching) >= 8
    for command in launching:
        assert '"gan"' in ganctl(f"{command} --dry-run"), command


def test_own_gan_is_at_most_forty_lines_and_trains(home: Path) -> None:
    block = python_blocks(README)["my_gan.py"]
    assert len(block.strip().splitlines()) <= 40
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *shlex.split(f"train my_gan:my_recipe {QUICK} --json")],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"state": "completed"' in done.stdout
    assert list((home / "ganctl-store" / "runs").glob("*/samples/*.png"))


def test_own_loss_trains(home: Path) -> None:
    out = ganctl(f"ganctl train my_loss:recipe data.num=3000 {QUICK} --json")
    assert '"state": "completed"' in out


def test_own_data_trains_with_one_flag(home: Path) -> None:
    lines = [c for c in commands(README) if "--data" in c]
    assert len(lines) == 2
    for line in lines:
        assert '"state": "completed"' in ganctl(f"{line} {QUICK} gan.width=4 --json")


def test_everyday_commands_work_on_a_run(home: Path) -> None:
    ganctl(f"ganctl train dcgan.digits {QUICK} gan.width=4 --json")
    everyday = ("runs", "sample", "evaluate", "export", "recipes")
    lines = [c for c in commands(README) if c.split()[1] in everyday and "faces" not in c]
    assert {c.split()[1] for c in lines} == set(everyday)
    for line in lines:
        ganctl(line)
    assert (home / "grid.png").exists()
    assert (home / "generator.onnx").exists()


def test_the_retraining_is_applied_promoted_and_sampled_by_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ganctl up` and a round under it are in tests/test_retraining_served.py."""
    for name in ("PREFECT_API_URL", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    (block,) = re.findall(r"```yaml\n# faces.yaml\n(.*?)```", README, re.DOTALL)
    (home / "faces.yaml").write_text(block)
    apply, status, history, sample = [
        c for c in commands(README) if c.split()[1] in ("retrain", "status") or "faces" in c
    ]
    assert "applied" in ganctl(apply)
    ganctl(f"ganctl train dcgan.digits {QUICK} gan.width=4 --json")
    ganctl("ganctl retrain promote faces latest")
    ganctl(sample)
    assert (home / "faces.png").exists()
    assert "faces" in ganctl(status)
    assert "promotion" in ganctl(history)


def test_the_duckdb_line_reads_the_metrics(home: Path) -> None:
    ganctl(f"ganctl train vanilla.ring data.num=3000 {QUICK} --json")
    line = re.search(r"^python -c (.*)$", README, re.MULTILINE)
    assert line is not None
    code = shlex.split(line.group(0))[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "coverage" in done.stdout
