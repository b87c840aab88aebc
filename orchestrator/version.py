"""Which code made a result."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def code_version() -> dict[str, str]:
    """Versions of ganctl and torch, and the commit where this is a git checkout."""
    found = {}
    for package in ("ganctl", "torch", "ray", "optuna"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    root = Path(__file__).parent.parent
    if (root / ".git").exists():
        asked = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            found["commit"] = asked.stdout.strip()
    return found
