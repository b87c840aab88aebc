"""The bridge, its cables and its addresses: everything that `ip` does. Needs root."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import subprocess
from typing import Any

INTERFACE = "eth0"
"""The one interface of every host: what GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name."""


def ip(*words: str) -> Any:
    """Run `ip`, and return what it tells as JSON. Raises RuntimeError with what it says."""
    done = subprocess.run(["ip", "-json", *words], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {' '.join(done.stderr.split())}")
    return json.loads(done.stdout) if done.stdout.strip() else []


def free_subnet(seed: str) -> str:
    """The first three numbers of a 10.x.y.0/24 that no route of this machine leads to; `seed` says where to look."""
    routes = [r["dst"] for r in ip("-4", "route") if r["dst"] != "default"]
    taken = [ipaddress.ip_network(dst, strict=False) for dst in routes]
    for attempt in range(256):
        x, y = hashlib.sha256(f"{seed}{attempt}".encode()).digest()[:2]
        if not any(ipaddress.ip_network(f"10.{x}.{y}.0/24").overlaps(other) for other in taken):
            return f"10.{x}.{y}"
    raise RuntimeError("every 10.x.y.0/24 is routed somewhere already")


def lay_bridge(bridge: str, address: str) -> None:
    """A switch, with `address` for this machine."""
    ip("link", "add", bridge, "type", "bridge")
    ip("address", "add", f"{address}/24", "dev", bridge)
    ip("link", "set", bridge, "up")


def lay_cable(bridge: str, cable: str, address: str, pid: int) -> None:
    """From `bridge` to INTERFACE in the network namespace of process `pid`, the host at `address`."""
    # A host that comes back has its old card: others would try the card they remember for half a minute.
    card = ":".join(f"{byte:02x}" for byte in (2, 0, *ipaddress.ip_address(address).packed))
    remove(cable)  # the kernel takes a dead host's cable away in its own time
    ip("link", "add", cable, "type", "veth", "peer", "name", INTERFACE, "address", card, "netns", str(pid))
    ip("link", "set", cable, "master", bridge, "up")


def set_cable(cable: str, up: bool) -> None:
    """Pull the cable out of the switch, or put it back."""
    ip("link", "set", cable, "up" if up else "down")


def cables(bridge: str) -> dict[str, bool]:
    """The cables of `bridge`, and whether they are plugged in."""
    names = {link["ifname"]: "UP" in link["flags"] for link in ip("link", "show")}
    return {name: up for name, up in names.items() if name.startswith(f"{bridge}-")}


def remove(*links: str) -> None:
    """Cables or a bridge; nothing where there is nothing."""
    for name in links:
        try:
            ip("link", "delete", name)
        except RuntimeError as error:
            if "Cannot find device" not in str(error):
                raise
