"""The tests' S3 server is the one of the local cluster, on the loopback address."""

from infra.local.ceph import ACCESS_KEY, SECRET_KEY, Ceph, S3Server, free_port, missing_programs

__all__ = ["ACCESS_KEY", "SECRET_KEY", "Ceph", "S3Server", "free_port", "missing_programs"]
