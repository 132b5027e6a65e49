"""The parts of harden.mlx that need no model."""

import gc
import json
import queue

import pytest

from harden.mlx.generation import Progress, RequestQueue
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
