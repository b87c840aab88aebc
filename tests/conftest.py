"""Fixtures for every test file."""

pytest_plugins = ["tests.support.stores", "tests.support.prefect", "tests.support.guard"]
