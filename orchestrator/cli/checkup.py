"""The checks of `ganctl doctor`. Each leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import GanctlError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TIMEOUT = 5.0  # seconds a server may take to answer
LOW_MEMORY = 2.0  # GiB: a training worker takes about 0.6, Ray's own processes another 1
GIB = 2**30
SHOWN = ("torch", "ray", "prefect")
EXTRAS = {"onnx": "ganctl export --format onnx", "inception": "FID as papers report it"}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and how to mend it."""

    name: str
    level: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


def findings(store: str, on: str = "", deep: bool = False) -> list[Finding]:
    """Every check in order: packages, store, Ray, Prefect, devices."""
    checks = [packages(), extras(), the_store(store), ray(on, store, deep), prefect(), devices()]
    return [finding for group in checks for finding in group]


def packages() -> Iterator[Finding]:
    """Installed versions against what ganctl's own metadata asks for; its caps stand for measured breakage."""
    if _version("ganctl") is None:
        yield Finding("ganctl", "fail", "not installed, so what it needs is not known", "make install")
        return
    wrong = [need for need in _needs() if not _fits(need)]
    for need in wrong:
        have, wanted = _version(need.name), str(need.specifier) or "any version"
        detail = (
            f"not installed, {wanted} is needed"
            if have is None
            else f"{have} is installed, {wanted} is needed"
        )
        yield Finding(need.name, "fail", detail, f'pip install -c constraints.txt "{need}"')
    if not wrong:
        yield Finding("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in SHOWN))


def extras() -> Iterator[Finding]:
    """Optional packages: what is lost without them."""
    for extra, use in EXTRAS.items():
        missing = [need.name for need in _needs(extra) if not _fits(need)]
        if missing:
            remedy = f'pip install "ganctl[{extra}]"'
            yield Finding(f"extra {extra}", "warn", f"no {use} without {', '.join(missing)}", remedy)
        else:
            yield Finding(f"extra {extra}", "ok", use)


def _needs(extra: str = "") -> list[Requirement]:
    """What ganctl requires: always, or only for `extra`."""
    from packaging.requirements import Requirement

    asked = [Requirement(text) for text in metadata.requires("ganctl") or []] if _version("ganctl") else []
    always = [need for need in asked if need.marker is None or need.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    return [
        n for n in asked if n not in always and n.marker is not None and n.marker.evaluate({"extra": extra})
    ]


def _fits(need: Requirement) -> bool:
    have = _version(need.name)
    return have is not None and need.specifier.contains(have, prereleases=True)


def the_store(url: str) -> Iterator[Finding]:
    """Everything the store is needed for, conditional writes included."""
    from orchestrator.store.objects import open_objects

    try:
        checks = open_objects(url).check()
    except GanctlError as error:
        what, _, remedy = str(error).rpartition("; ")
        yield Finding("store", "fail", what, remedy)
        return
    for check in checks:
        yield Finding(f"store {check.name}", "ok" if check.ok else "fail", check.detail, check.remedy)


def ray(on: str, store: str, deep: bool) -> Iterator[Finding]:
    """Ray: its version, a cluster's where one is named, and with `deep` whether one can start here."""
    if _version("ray") is None:
        return
    if on:
        yield from _cluster(on, store)
    if deep:
        yield _own_ray()


def _cluster(address: str, store: str) -> Iterator[Finding]:
    """Whether the Jobs API of `address` answers, with our version of Ray, and sees the store."""
    name = f"ray at {address}"
    if not address.startswith(("http://", "https://")):
        yield Finding(name, "fail", "not an address", "write --on http://HEAD:8265")
        return
    request = urllib.request.Request(f"{address.rstrip('/')}/api/version", headers=_authorisation())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            there, here = json.load(answer)["ray_version"], _version("ray")
    except urllib.error.HTTPError as error:
        remedy = (
            "set RAY_AUTH_TOKEN to the cluster's token" if error.code in (401, 403) else "is this a Ray head?"
        )
        yield Finding(name, "fail", f"answered {error.code}", remedy)
        return
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "reason", error)
        yield Finding(name, "fail", f"no Ray head answers: {reason}", "start it, and open its port 8265")
        return
    if there == here:
        yield Finding(name, "ok", f"Ray {there}")
    else:
        yield Finding(
            name, "fail", f"Ray {there}, here {here}", "install the same version of Ray on both sides"
        )
    if "://" not in store or store.startswith("file://"):
        remedy = "use --store s3://bucket/prefix"
        yield Finding("store seen from there", "warn", "a folder of this machine", remedy)


def _authorisation() -> dict[str, str]:
    """The header Ray asks for under RAY_AUTH_MODE=token."""
    token, path = os.environ.get("RAY_AUTH_TOKEN"), os.environ.get("RAY_AUTH_TOKEN_PATH")
    if not token and path and os.path.isfile(path):
        token = Path(path).read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _own_ray() -> Finding:
    from orchestrator.cluster import connected

    try:
        with connected("local") as capacity:
            return Finding("ray starts here", "ok", f"{capacity.cpus:g} CPUs, {capacity.gpus:g} GPUs")
    except Exception as error:  # Ray raises dozens of unrelated classes
        said = " ".join(str(error).split())[:200]
        return Finding("ray starts here", "fail", said, "look at the logs in /tmp/ray/session_latest/logs")


def prefect() -> Iterator[Finding]:
    """Prefect: in-process without a server, or the server that PREFECT_API_URL names."""
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        yield Finding("prefect server", "ok", "none: flows run in this process")
        return
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=TIMEOUT):
            yield Finding("prefect server", "ok", url)
    except urllib.error.HTTPError as error:
        yield Finding("prefect server", "warn", f"{url} answered {error.code}", "it should end in /api")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        remedy = "start it (prefect server start), or unset PREFECT_API_URL"
        yield Finding("prefect server", "fail", f"{url}: {reason}", remedy)


def devices() -> Iterator[Finding]:
    """CPUs, memory, GPUs, and which precision pays."""
    import torch

    from gans.options import default_device, native_bf16
    from orchestrator.cluster import local_capacity

    capacity = local_capacity()
    yield Finding("CPUs", "ok", f"{capacity.cpus:g}")
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    remedy = "end other programs, or lower scale.workers"
    low = free < LOW_MEMORY
    yield Finding(
        "memory", "warn" if low else "ok", f"{free:.1f} of {whole:.1f} GiB free", remedy if low else ""
    )
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if not names and shutil.which("nvidia-smi"):
        detail = f"there is an NVIDIA driver, and torch {torch.__version__} sees no GPU"
        yield Finding("GPUs", "warn", detail, "install a CUDA build of torch that suits the driver")
    else:
        yield Finding("GPUs", "ok", ", ".join(names) or "none")
    native = native_bf16(default_device())
    yield Finding("bf16", "ok", "native" if native else "not native here: float32 is used")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
