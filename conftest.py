"""Settings of the whole test suite. The harden plugin loads by its entry point, never from here."""

import os

import pytest

pytest_plugins = ["pytester"]

EXPLAINED_SKIPS: dict[str, str] = {}
"""Reasons (their beginnings) for which a test may skip in CI, and why that is all right there."""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skip that nobody explained is a failure: a suite must not pass by not running."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None or hasattr(session.config, "workerinput"):
        return
    for report in reporter.stats.get("skipped", []):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(tuple(EXPLAINED_SKIPS)):
            reporter.write_line(f"unexplained skip: {report.nodeid}: {reason}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
