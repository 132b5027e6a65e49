"""A process and its descendants, found and ended together, orphans included."""

from __future__ import annotations

import contextlib
import os
import time

import psutil

__all__ = ["ProcessFamily"]

_POLL_INTERVAL_S = 0.02


class ProcessFamily:
    """The descendants of one process that leads a session of its own.

    An orphan no longer tells whose child it was, so look at the family while the leader lives.
    """

    def __init__(self, leader_pid: int) -> None:
        """Name the leader.

        Args:
            leader_pid: process id of a session's leader that still runs, or is not yet reaped.
        """
        # Keeps the start time too, so that a later process with the same id is not taken for it.
        self._leader = psutil.Process(leader_pid)
        self._members: set[psutil.Process] = set()

    def look(self) -> None:
        """Remember the descendants that the leader has now, and the members of its session."""
        with contextlib.suppress(psutil.Error):
            self._members.update(self._leader.children(recursive=True))
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(process.pid) == self._leader.pid != process.pid:
                    self._members.add(process)

    def alive(self) -> list[psutil.Process]:
        """Return the remembered descendants that still run."""
        return [member for member in self._members if _is_alive(member)]

    def kill(self, timeout_s: float) -> None:
        """Kill every descendant and wait until all are gone.

        Args:
            timeout_s: longest wait for processes that the kernel does not let go of.
        """
        self.look()
        for member in self._members:
            with contextlib.suppress(psutil.Error):
                member.kill()
        deadline = time.monotonic() + timeout_s
        while self.alive() and time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL_S)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
