"""The parts of harden.mlx that need no model."""

import gc
import json
import queue
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from harden.mlx.generation import Progress, RequestQueue, ResponseGenerator
from harden.mlx.refusal import GenerationLostError, Refusal
from harden.mlx.service import Service, public_model_name


def test_requests_that_were_taken_are_told_of_a_failure():
    """Whoever waits for answers of a failed generation gets the error; others wait on."""
    requests, taken, waiting = RequestQueue(), queue.Queue(), queue.Queue()
    requests.put((taken, "request", "args"))
    requests.put((waiting, "request", "args"))
    assert requests.get()[0] is taken
    error = GenerationLostError(batch=1)
    requests.fail_taken(error)
    assert taken.get_nowait() is error
    assert waiting.empty()
    assert requests.get_nowait()[0] is waiting


def test_requests_that_have_ended_are_forgotten():
    """The queue holds nobody's answers longer than they do themselves."""
    requests = RequestQueue()
    requests.put((queue.Queue(), "request", "args"))
    requests.get()
    gc.collect()
    assert not list(requests._taken)


def test_progress_stalls_only_where_there_is_work():
    """An idle server is not stalled; one with a request is, until something is done."""
    progress = Progress()
    assert progress.stalled_s == 0
    with progress.request():
        assert progress.stalled_s > 0
        progress.generated()
        progress.prefilled()
    assert (progress.stalled_s, progress.tokens, progress.active) == (0, 1, 0)


@dataclass
class _Arguments:
    """What upstream's check of a request reads."""

    sampling: SimpleNamespace
    seed: int | None


class _Scripted(ResponseGenerator):
    """Upstream's loop replaced by a list of what happens in it."""

    def __init__(self, script, *, loaded=True):
        self.script = iter(script)
        self.progress = Progress()
        self.thread_restarts = 0
        self.requests = RequestQueue()
        self.model_provider = SimpleNamespace(
            cli_args=SimpleNamespace(model="m"), model_key="m" if loaded else None
        )
        self._stop = self._generation_failed = False
        self.hopeless = 0
        self._on_hopeless = self._count

    def _count(self):
        self.hopeless += 1

    def _generate(self):
        for step in next(self.script):
            if step == "token":
                self.progress.generated()
            else:
                raise RuntimeError(step)


@pytest.mark.parametrize(
    ("script", "restarts", "hopeless"),
    [
        ([[]], 0, 0),
        ([["fail"], []], 1, 0),
        ([["fail"], ["fail"], []], 2, 0),
        ([["fail"], ["fail"], ["fail"]], 2, 1),
        ([["token", "fail"]] * 9 + [[]], 9, 0),
        ([["fail"], ["fail"], ["token", "fail"], ["fail"], []], 4, 0),
    ],
)
def test_the_thread_starts_over_while_there_is_hope(script, restarts, hopeless):
    """Two restarts in a row may come to nothing; a token makes good for those before it."""
    generator = _Scripted(script)
    generator._run_generate()
    assert (generator.thread_restarts, generator.hopeless) == (restarts, hopeless)


@pytest.mark.parametrize(
    ("temperature", "seed", "batched"),
    [(0, 7, True), (1, 7, False), (0, None, True), (1, None, True)],
)
def test_a_seed_costs_the_batch_only_where_it_means_something(temperature, seed, batched):
    """Upstream serves every seeded request alone; at temperature 0 a seed decides nothing."""
    generator = _Scripted([])
    generator.model_provider.is_batchable = True
    generator.model_provider.cli_args.kv_bits = None
    arguments = _Arguments(SimpleNamespace(temperature=temperature), seed)
    assert generator._is_batchable(arguments) is batched
    assert arguments.seed == seed


def test_a_model_that_does_not_load_is_hopeless():
    """Starting over would only fail again."""
    generator = _Scripted([["cannot load"]], loaded=False)
    generator._run_generate()
    assert (generator.thread_restarts, generator.hopeless) == (0, 1)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (GenerationLostError(batch=3), 503, "generation_lost"),
        (RuntimeError("[metal] out of memory at /a/b"), 500, "internal_error"),
        (ValueError("Only 'text' content type is supported."), 400, "invalid_request"),
    ],
)
def test_generation_errors_have_their_status(error, status, code):
    """Upstream answers every error with 404; here it is whose fault it was."""
    refusal = Refusal.of_error(error).answer
    assert (refusal.status, refusal.code) == (status, code)
    body = json.loads(refusal.body())["error"]
    assert "/a/b" not in body["message"]
    assert body.get("lost_batch") == (3 if status == 503 else None)


def test_public_names_are_never_paths(tmp_path):
    """A folder is known by its last part, a hub id by itself, and a given name goes first."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert public_model_name(str(folder)) == "my-model"
    assert public_model_name("org/model") == "org/model"
    assert public_model_name(str(folder), "served") == "served"
    assert public_model_name(None) is None


def test_a_machine_without_a_model_cache_has_no_models(tmp_path, monkeypatch):
    """Where upstream's /v1/models breaks off, ours is an empty list."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert Service(model_name="m", behind_gateway=False).model_names() == ["m"]
    assert Service(model_name=None, behind_gateway=False).model_names() == []
