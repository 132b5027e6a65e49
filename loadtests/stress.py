"""The main job under Locust: real load, and a verdict read from the server's own metrics.

    locust -f loadtests/stress.py                         # web UI
    locust -f loadtests/stress.py --headless --host URL   # ends by itself, exit code = verdict

Thin: what is sent, measured and judged is in harden.load; here are Locust's users, its shape,
its messages between master and workers, and its web UI.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import gevent
from locust import LoadTestShape, User, events, task
from locust.exception import CatchResponseError
from locust.runners import MasterRunner, WorkerRunner

from harden.exceptions import ValidationError
from harden.load.client import CompletionClient
from harden.load.metrics_client import MetricsClient, ServerMetricsError
from harden.load.plan import (
    DEFAULT_SCENARIOS,
    DEFAULT_SIZES,
    SCENARIOS,
    SIZE_OPTIONS,
    Release,
    requests_of,
    size_flag,
)
from harden.load.report import TABLE_HEADINGS
from harden.load.stage import DEFAULT_HOST, USAGE_ERROR, Stage, chosen_scenarios, target_url
from harden.load.verdict import Verdict

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment
    from locust.rpc import Message

    from harden.load.records import RequestRecord


_logger = logging.getLogger("harden.stress")
_TAB = "verdict"


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add our options to Locust's command line, and by that to the form of its web UI."""
    parser.add_argument(
        "--scenario",
        env_var="HARDEN_SCENARIO",
        default=DEFAULT_SCENARIOS,
        help=f"comma list of {', '.join(SCENARIOS)}",
    )
    for name, text in SIZE_OPTIONS.items():
        default = getattr(DEFAULT_SIZES, name)
        variable = f"HARDEN_STRESS_{name.upper()}"
        parser.add_argument(
            size_flag(name), env_var=variable, type=type(default), default=default, help=text
        )


class StressUser(User):
    """Waits for a release, sends what it asks for, hands in the records."""

    host = DEFAULT_HOST
    crew: ClassVar[Crew]

    def on_start(self) -> None:
        """Learn the model's name and join the crew."""
        key = os.environ.get("HARDEN_API_KEY") or None
        self.completions = CompletionClient(str(self.host), api_key=key)
        self.completions.find_model()
        self.inbox: SimpleQueue[tuple[Release, float]] = SimpleQueue()
        self.name = self.crew.join(self.inbox)

    def on_stop(self) -> None:
        """Leave the crew."""
        self.crew.leave(self.name)

    @task
    def follow(self) -> None:
        """Do one round; what is due next is due when the answer before it has ended."""
        release, intended_s = self.inbox.get()
        for request in requests_of(release, self.name):
            record = self.completions.complete(request, intended_s)
            self.crew.hand_in(record)
            intended_s = record.end_s


class Crew:
    """The users of this process, and their line to the conductor's process."""

    def __init__(self, environment: Environment) -> None:
        """Listen for releases and for users that break."""
        self._environment = environment
        self._inboxes: dict[str, SimpleQueue[tuple[Release, float]]] = {}
        self._joined = 0
        environment.events.user_error.add_listener(self._on_user_error)

    def join(self, inbox: SimpleQueue[tuple[Release, float]]) -> str:
        """Take a user in and return its name, unique among all processes."""
        name = f"{getattr(self._environment.runner, 'worker_index', 0)}.{self._joined}"
        self._joined += 1
        self._inboxes[name] = inbox
        self._send("harden_user", {"name": name, "waits": True})
        return name

    def leave(self, name: str) -> None:
        """Let a user go."""
        if self._inboxes.pop(name, None) is not None:
            self._send("harden_user", {"name": name, "waits": False})

    def on_release(self, environment: Environment, msg: Message, **_: Any) -> None:
        """Release all users of this process at once."""
        del environment
        now_s = time.perf_counter()
        for inbox in self._inboxes.values():
            inbox.put((Release(**msg.data), now_s))

    def hand_in(self, record: RequestRecord) -> None:
        """Give a record to the conductor, and its times to Locust's statistics."""
        self._send("harden_record", record.to_dict())
        name = f"{record.scenario} {record.stage}"
        self._fire("POST", name, record.latency_ms, record)
        if record.ttft_ms is not None:
            self._fire("TTFT", name, record.ttft_ms, None)

    def _fire(
        self, kind: str, name: str, response_time_ms: float, record: RequestRecord | None
    ) -> None:
        self._environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=response_time_ms,
            response_length=record.size_bytes if record else 0,
            exception=CatchResponseError(record.error) if record and record.error else None,
            context={},
        )

    def _on_user_error(self, exception: Exception, **_: Any) -> None:
        self._send("harden_trouble", {"text": f"{type(exception).__name__}: {exception}"})

    def _send(self, kind: str, data: dict[str, Any]) -> None:
        if self._environment.runner is not None:
            self._environment.runner.send_message(kind, data)


class StressShape(LoadTestShape):
    """Gives the users that the scenario at hand needs, and stops after the last one."""

    stage: ClassVar[Stage]

    def tick(self) -> tuple[int, float] | None:
        """Return users and spawn rate; None ends the test."""
        return self.stage.tick()


@events.init.add_listener
def set_up(environment: Environment, **_: Any) -> None:
    """Connect users, conductor and web UI to Locust, whichever part this process has."""
    runner = environment.runner
    if runner is None:
        return
    if not isinstance(runner, MasterRunner):
        StressUser.crew = Crew(environment)
        runner.register_message("harden_release", StressUser.crew.on_release)
    if isinstance(runner, WorkerRunner):
        return
    _check(environment)
    _interrupt_the_main_greenlet()
    StressShape.stage = stage = Stage(environment)
    runner.register_message("harden_user", stage.on_user)
    runner.register_message("harden_record", stage.on_record)
    runner.register_message("harden_trouble", stage.on_trouble)
    environment.events.test_stop.add_listener(stage.on_test_stop)
    environment.events.quitting.add_listener(stage.on_quitting)
    if environment.web_ui:
        _add_tab(environment.web_ui, stage)


def _check(environment: Environment) -> None:
    """End at once, with one line, where there is nothing to run or nothing to run against."""
    try:
        chosen_scenarios(environment)
        metrics = MetricsClient(target_url(environment))
        if environment.web_ui is None:
            metrics.scrape()
    except ValidationError as error:
        _exit(str(error), USAGE_ERROR)
    except ServerMetricsError as error:
        _exit(f"{Verdict.INVALID.value}: {error}", Verdict.INVALID.exit_code)


def _interrupt_the_main_greenlet() -> None:
    """Let Ctrl-C end Locust's main loop and not whichever greenlet happens to run.

    It could be the conductor, and then there would be a traceback instead of a verdict.
    """
    interrupt = KeyboardInterrupt()
    gevent.signal_handler(
        signal.SIGINT, gevent.get_hub().handle_system_error, KeyboardInterrupt, interrupt
    )


def _exit(text: str, code: int) -> NoReturn:
    print(f"stress: {text}", file=sys.stderr)  # noqa: T201 - one line, whatever the log's format
    sys.exit(code)


def _add_tab(web_ui: Any, stage: Stage) -> None:
    """Show the verdict as a tab of Locust's web UI, which asks for its rows every few seconds."""
    columns = [{"key": heading, "title": heading.capitalize()} for heading in TABLE_HEADINGS]
    web_ui.template_args["extended_tabs"] = [{"title": "Verdict", "key": _TAB}]
    web_ui.template_args["extended_tables"] = [{"key": _TAB, "structure": columns}]

    @web_ui.app.after_request
    def add_rows(response: Any) -> Any:
        from flask import request  # noqa: PLC0415 - only where there is a web UI

        if request.path.endswith("/stats/requests") and response.is_json:
            document = {**response.json, "extended_stats": [{"key": _TAB, "data": stage.rows()}]}
            response.set_data(json.dumps(document))
        return response
