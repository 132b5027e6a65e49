"""How a worker's end is read, and what the gateway refuses."""

import asyncio
import json
import signal
import sys

import pytest

from harden.gateway.authentication import require_key
from harden.gateway.backends import CommandBackend, Launch
from harden.gateway.refusal import Refusal
from harden.gateway.worker import Death, Worker


@pytest.mark.parametrize(
    ("code", "given", "expected"),
    [
        (-signal.SIGSEGV, None, Death("SIGSEGV", own_doing=True)),
        (-signal.SIGABRT, None, Death("SIGABRT", own_doing=True)),
        (-signal.SIGBUS, None, Death("SIGBUS", own_doing=True)),
        (-signal.SIGKILL, None, Death("SIGKILL", own_doing=False)),
        (-signal.SIGTERM, None, Death("SIGTERM", own_doing=False)),
        (70, None, Death("exit 70", own_doing=True)),
        (-signal.SIGKILL, "stall", Death("stall", own_doing=False)),
        (-63, None, Death("signal 63", own_doing=False)),
    ],
)
def test_an_exit_code_says_whose_doing_it_was(code, given, expected):
    """Signals of the process's own errors convict; a kill may have come from outside."""
    assert Death.of_exit(code, given) == expected


async def _until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.01)


def _launch(code):
    command = (sys.executable, "-c", code)
    return Launch(command, "http://127.0.0.1:1", None, "/ready", None)


def test_a_worker_that_ignores_sigterm_is_killed_and_reaped():
    """Closing takes no more than the grace, and leaves no process."""

    async def scenario():
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(60)"
        worker = await Worker.start(1, _launch(code))
        await _until(lambda: "up" in worker.last_lines)
        await worker.close()
        assert (await worker.death).reason == "SIGKILL"

    asyncio.run(scenario())


def test_the_last_lines_are_kept_redacted():
    """What a worker said before it died is shown without the paths in it."""

    async def scenario():
        code = "print('no such file: /home/somebody/models/secret.bin')"
        worker = await Worker.start(1, _launch(code))
        assert (await worker.death).reason == "exit 0"
        await _until(lambda: worker.last_lines)
        await worker.close()
        assert "no such file" in worker.last_lines[0]
        assert "somebody" not in worker.last_lines[0]

    asyncio.run(scenario())


def test_an_endless_line_does_not_stop_the_log():
    """A line longer than the buffer is dropped; the next one is read."""

    async def scenario():
        worker = await Worker.start(1, _launch("print('x' * 300_000); print('after')"))
        await worker.death
        await _until(lambda: any("after" in line for line in worker.last_lines))
        await worker.close()

    asyncio.run(scenario())


def test_a_command_gets_its_port_and_model():
    """{port} and {model} of --backend are filled in, each start with a free port."""
    launch = CommandBackend("serve {model} --port {port} --name 'a b'", "m").launch(1)
    port = launch.base_url.rpartition(":")[2]
    assert launch.command == ("serve", "m", "--port", port, "--name", "a b")


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer other", "Basic key", "key", "\udcff"]
)
def test_a_wrong_key_is_a_401_that_says_how(given):
    """Whatever is in the header, a request without the key learns how to send it."""
    with pytest.raises(Refusal) as caught:
        require_key(given, "key")
    assert caught.value.answer.status == 401
    assert caught.value.answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in json.loads(caught.value.answer.body())["error"]["message"]


def test_the_right_key_passes():
    """The scheme's case does not matter; no key wanted lets everyone in."""
    require_key("bearer key", "key")
    require_key(None, None)
