"""A real S3 server: Ceph's RADOS Gateway on one monitor and one OSD in memory; what it holds goes with it.

`python -m infra.local.ceph ADDRESS FOLDER` serves one, with a bucket, until it is killed. Every path lies under one
folder, every process is ours, and all of them end with SIGKILL, on failure and when our own process is killed, too
(`setpriv --pdeathsig`).
"""

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = (
    "ceph",
    "ceph-authtool",
    "ceph-mon",
    "ceph-osd",
    "monmaptool",
    "radosgw",
    "radosgw-admin",
    "setpriv",
)
ACCESS_KEY = "ganctltestaccesskey00024"
SECRET_KEY = "ganctltestsecretkey00024"
REGION = "default"  # in any other, creating a bucket fails on RGW
PORT, BUCKET = 8080, "ganctl"  # of the server that has an address of its own

CONFIG = """\
[global]
fsid = {fsid}
mon host = v2:{address}:{mon_port}
ms bind msgr1 = false
ms bind ipv6 = false
public addr = {address}
cluster addr = {address}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {root}/keyring
run dir = {root}
log file = {root}/$name.log
pid file = {root}/$name.pid
admin socket = {root}/$name.asok
crash dir = {root}/crash
mon data = {root}/mon
osd data = {root}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
paxos propose interval = 0.05
paxos min wait = 0.01
osd max object name len = 256
osd max object namespace len = 64
[client.rgw]
rgw data = {root}/rgw
rgw frontends = beast endpoint={address}:{rgw_port} tcp_nodelay=1
"""


def missing_programs() -> list[str]:
    """The programs of Debian's ceph-mon, ceph-osd, radosgw and ceph-common that are not installed here."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class S3Server:
    """Where an S3 server answers, and the keys it knows."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str

    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        }


class Ceph:
    """A cluster of three processes under `root`, which is short-lived and local to this machine."""

    def __init__(self, root: Path, address: str = "127.0.0.1", port: int | None = None) -> None:
        self.root = root
        self.address = address
        self.port = port or free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.fsid = str(uuid.uuid4())
        self.mon_port = free_port()
        for folder in ("crash", "mon", "osd", "rgw"):
            (root / folder).mkdir(parents=True)
        ports = {"mon_port": self.mon_port, "rgw_port": self.port}
        (root / "ceph.conf").write_text(CONFIG.format(fsid=self.fsid, root=root, address=address, **ports))

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}:{self.port}"

    def start(self, timeout: float = 90) -> S3Server:
        """Bring everything up, and a user. Raises RuntimeError with the server's log where that fails."""
        deadline = time.monotonic() + timeout
        self._keyring()
        self._run(
            "monmaptool",
            "--create",
            "--fsid",
            self.fsid,
            "--addv",
            "a",
            f"[v2:{self.address}:{self.mon_port}]",
            f"{self.root}/monmap",
        )
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", f"{self.root}/monmap")
        self._serve("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._serve("ceph-osd", "-i", "0")
        self._serve("radosgw", "-n", "client.rgw")
        self._wait(deadline)
        self._run(
            "radosgw-admin",
            "-n",
            "client.rgw",
            "user",
            "create",
            "--uid",
            "tests",
            "--display-name",
            "tests",
            "--access-key",
            ACCESS_KEY,
            "--secret-key",
            SECRET_KEY,
        )
        return S3Server(self.endpoint, ACCESS_KEY, SECRET_KEY, REGION)

    def stop(self) -> None:
        """SIGKILL: on SIGTERM a memstore OSD lingers for seconds."""
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.wait()

    def _keyring(self) -> None:
        keyring = f"{self.root}/keyring"
        allowed = dict.fromkeys(("mon", "osd", "mgr", "mds"), "allow *")
        caps = [word for daemon, cap in allowed.items() for word in ("--cap", daemon, cap)]
        for number, name in enumerate(("mon.", "client.admin", "osd.0", "client.rgw")):
            create = ["--create-keyring"] if number == 0 else []
            self._run("ceph-authtool", *create, keyring, "--gen-key", "-n", name, *caps)

    def _command(self, program: str, *args: str) -> list[str]:
        if program in ("ceph-authtool", "monmaptool"):
            return [program, *args]
        return [program, "-c", f"{self.root}/ceph.conf", *args]

    def _run(self, program: str, *args: str) -> str:
        done = subprocess.run(self._command(program, *args), capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(
                f"{program} {' '.join(args)} ended with {done.returncode}: {done.stderr[-2000:]}"
            )
        return done.stdout

    def _serve(self, program: str, *args: str) -> None:
        log = (self.root / f"{program}.out").open("wb")
        command = ["setpriv", "--pdeathsig", "KILL", *self._command(program, *args, "-f")]
        with log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(process)

    def _wait(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            ended = [p.args for p in self.processes if p.poll() is not None]
            if ended:
                break
            try:
                urllib.request.urlopen(self.endpoint, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        logs = "\n".join(
            f"{p.name}: {p.read_text(errors='replace')[-1500:]}" for p in self.root.glob("*.out")
        )
        raise RuntimeError(f"Ceph did not come up:\n{logs}")


def make_bucket(server: S3Server, bucket: str) -> None:
    """Create `bucket` on `server`."""
    import botocore.session

    client = botocore.session.get_session().create_client(
        "s3",
        region_name=server.region,
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    client.create_bucket(Bucket=bucket)


def has_bucket(server: S3Server, bucket: str) -> bool:
    """Whether `server` answers and has `bucket`, which it shows to nobody without keys."""
    try:
        urllib.request.urlopen(f"{server.endpoint}/{bucket}", timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 403
    except OSError:
        return False
    return True


def main(address: str, folder: str) -> None:
    """Serve until killed."""
    make_bucket(Ceph(Path(folder), address, PORT).start(), BUCKET)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
