"""What the dashboard is told when it is made. Only the command line reads the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["viewer", "operator"]


@dataclass(frozen=True)
class Settings:
    """`token` lets people in; `hosts` are the names it may be called by; `port` names the cookie.

    `prefect` is the url of Prefect's API and `ray` that of Ray's dashboard, empty where there is none;
    `ray_token_path` the file with Ray's token. `origin` is what browsers call it behind a proxy that adds TLS;
    `secure` has cookies sent over TLS alone. `poll`: seconds between two looks at the store; `rate` and `burst`:
    requests a second that one client may make, and how many at once.
    """

    token: str = field(repr=False)
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    port: int = 8080
    role: Role = "operator"
    read_only: bool = False
    prefect: str = ""
    ray: str = ""
    ray_token_path: str = ""
    poll: float = 1.0
    origin: str = ""
    secure: bool = False
    rate: float = 200.0
    burst: int = 3000

    @property
    def operates(self) -> bool:
        """Whether this dashboard may change anything."""
        return self.role == "operator" and not self.read_only

    @property
    def cookie(self) -> str:
        """Cookies ignore ports, so the name tells two dashboards of one machine apart."""
        return f"ganctl_{self.port}"
