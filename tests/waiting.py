"""Waiting for a state with a deadline, in place of sleeping."""

import time


def wait_until(condition, *, what, within_s=30.0):
    """Poll until ``condition()`` is true; what it returned. Fails with ``what`` at the deadline."""
    deadline = time.monotonic() + within_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)
    return result
