"""The prompt cache in memory: what it never does, and what its failures cost."""

import mlx_lm.server
import pytest

from harden.error_handler import ErrorHandler
from harden.mlx.prompt_cache import PromptCache


class _Layer:
    """A cache of one layer that can be cut, of one byte a token."""

    def __init__(self, length):
        self.offset = length

    nbytes = property(lambda self: self.offset)

    def is_trimmable(self):
        return True

    def trim(self, count):
        self.offset -= count
        return count


class _FixedLayer(_Layer):
    def is_trimmable(self):
        return False


def _filled(length, layer=_Layer, **options):
    cache = PromptCache(**options)
    tokens = list(range(length))
    cache.insert_cache("model", tokens, [layer(length)])
    return cache, tokens


def test_a_prompt_that_is_there_as_a_whole_leaves_its_last_token():
    """Upstream returns nothing to compute, and its generation thread dies of it."""
    cache, tokens = _filled(5)
    found, rest = cache.fetch_nearest_cache("model", tokens)
    assert rest == [4]
    assert found[0].offset == 4


@pytest.mark.parametrize(("length", "layer"), [(5, _FixedLayer), (1, _Layer)])
def test_what_cannot_be_cut_goes_cold(length, layer):
    """A cache that cannot give its last token back is not used at all."""
    cache, tokens = _filled(length, layer)
    assert cache.fetch_nearest_cache("model", tokens) == (None, tokens)


def test_reuse_is_counted_in_tokens():
    """Of what was asked for, the figures tell what was there."""
    cache, tokens = _filled(5)
    cache.fetch_nearest_cache("model", [*tokens, 9, 9])
    cache.fetch_nearest_cache("model", [8, 8])
    figures = cache.figures()
    assert (figures.query_tokens, figures.hit_tokens) == (9, 5)
    assert (figures.sequences, figures.size_bytes) == (1, 5)


def test_bytes_are_bounded():
    """max_bytes holds, whatever the number of sequences."""
    cache = PromptCache(max_size=1000, max_bytes=100)
    for first in range(20):
        cache.insert_cache("model", [first] * 30, [_FixedLayer(30)])
    assert cache.nbytes <= 100


@pytest.fixture
def broken(monkeypatch):
    """Make upstream's own methods fail until the returned switch says otherwise."""
    state = {"broken": True}
    for name in ("fetch_nearest_cache", "insert_cache"):
        original = getattr(mlx_lm.server.LRUPromptCache, name)

        def method(self, *arguments, _original=original, **keywords):
            if state["broken"]:
                raise RuntimeError("out of /some/path")
            return _original(self, *arguments, **keywords)

        monkeypatch.setattr(PromptCache.__mro__[1], name, method)
    return state


@pytest.mark.usefixtures("broken")
def test_a_failing_cache_costs_the_request_nothing_but_its_cache():
    """The request goes on cold, and what it computed is not kept."""
    cache, tokens = _filled(5)
    assert cache.fetch_nearest_cache("model", tokens) == (None, tokens)
    assert len(cache) == 0


def test_five_failures_switch_the_cache_off_and_ten_requests_on_again(broken):
    """While it is off nobody asks it; the mode is what /v1/metrics shows."""
    errors = ErrorHandler()
    cache = PromptCache(errors=errors)
    for _ in range(5):
        cache.fetch_nearest_cache("model", [1, 2])
    assert errors.check_degradation_status()["mode"] == "degraded"
    for _ in range(10):
        assert cache.fetch_nearest_cache("model", [1, 2]) == (None, [1, 2])
    assert errors.check_degradation_status()["mode"] == "normal"
    broken["broken"] = False
    cache.insert_cache("model", [1, 2], [_Layer(2)])
    assert cache.fetch_nearest_cache("model", [1, 2, 3])[1] == [3]
