"""A Ray cluster of several hosts on one machine; see docs/cluster.md."""
