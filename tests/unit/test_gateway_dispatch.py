"""Who may be in the worker, and who is to blame when it dies."""

import asyncio
from types import SimpleNamespace

import pytest

from harden.gateway.dispatch import Dispatch, Flight

WORKER = SimpleNamespace(number=1)
NEXT_WORKER = SimpleNamespace(number=2)


def _ready():
    dispatch = Dispatch()
    dispatch.worker_ready(WORKER)
    return dispatch


async def _enter_all(dispatch, flights):
    for flight in flights:
        await dispatch.enter(flight)


async def _settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_requests_wait_for_a_worker():
    """Nothing is sent before a worker is ready."""

    async def scenario():
        dispatch = Dispatch()
        entering = asyncio.create_task(dispatch.enter(Flight()))
        await _settle()
        assert not entering.done()
        dispatch.worker_ready(WORKER)
        assert await entering is WORKER

    asyncio.run(scenario())


def test_a_lone_request_is_convicted_by_the_workers_own_death():
    """Alone in a worker that segfaults: it was this request."""

    async def scenario():
        dispatch, flight = _ready(), Flight()
        await dispatch.enter(flight)
        dispatch.worker_gone(own_doing=True)
        assert flight.convicted

    asyncio.run(scenario())


def test_a_lone_request_is_convicted_by_the_third_kill_from_outside():
    """SIGKILL may come from anybody; three times alone is no accident."""

    async def scenario():
        dispatch, flight = _ready(), Flight()
        for kill in range(3):
            assert not flight.convicted, kill
            await dispatch.enter(flight)
            dispatch.worker_gone(own_doing=False)
            dispatch.worker_ready(NEXT_WORKER)
        assert flight.convicted

    asyncio.run(scenario())


def test_a_death_among_several_convicts_nobody_and_sends_them_alone():
    """The suspects go one at a time, with nothing else running, and new ones wait behind them."""

    async def scenario():
        dispatch, flights, newcomer = _ready(), [Flight() for _ in range(3)], Flight()
        await _enter_all(dispatch, flights)
        dispatch.worker_gone(own_doing=True)
        assert not any(flight.convicted for flight in flights)
        dispatch.worker_ready(NEXT_WORKER)
        waiting = [asyncio.create_task(dispatch.enter(f)) for f in (newcomer, *flights)]
        for turn, flight in enumerate(flights, start=1):
            await _settle()
            assert [task.done() for task in waiting] == [False, *(i < turn for i in range(3))]
            dispatch.leave(flight, answered=True)
            dispatch.close(flight)
        await _settle()
        assert waiting[0].done()

    asyncio.run(scenario())


def test_a_request_that_cannot_be_replayed_is_no_suspect():
    """A stream whose first event is out ends with an error; nobody waits for it."""

    async def scenario():
        dispatch, cut, other = _ready(), Flight(replayable=False), Flight()
        await _enter_all(dispatch, [cut, other])
        dispatch.worker_gone(own_doing=True)
        dispatch.worker_ready(NEXT_WORKER)
        assert not cut.suspect
        assert await dispatch.enter(other) is NEXT_WORKER

    asyncio.run(scenario())


def test_a_request_that_has_just_left_still_counts_for_blame():
    """The worker may still be at work on it, so the one beside it is not convicted."""

    async def scenario():
        dispatch, left, innocent = _ready(), Flight(), Flight()
        await _enter_all(dispatch, [left, innocent])
        dispatch.leave(left, answered=False)
        dispatch.worker_gone(own_doing=True)
        assert not innocent.convicted

    asyncio.run(scenario())


def test_a_lost_batch_is_judged_once():
    """The second request of a batch to report its loss is not alone because the first has left."""

    async def scenario():
        dispatch, flights = _ready(), [Flight(), Flight()]
        await _enter_all(dispatch, flights)
        for flight in flights:
            dispatch.batch_lost(WORKER, 1)
            dispatch.leave(flight, answered=True)
        assert [flight.suspect for flight in flights] == [True, True]
        assert not any(flight.convicted for flight in flights)

    asyncio.run(scenario())


def test_a_loss_reported_after_the_workers_death_judges_nobody():
    """What is in the next worker has nothing to do with the batch that the last one lost."""

    async def scenario():
        dispatch, old, new = _ready(), Flight(), Flight()
        await dispatch.enter(old)
        dispatch.worker_gone(own_doing=False)
        dispatch.worker_ready(NEXT_WORKER)
        dispatch.close(old)
        await dispatch.enter(new)
        dispatch.batch_lost(WORKER, 1)
        assert not new.suspect
        assert not new.convicted

    asyncio.run(scenario())


def test_a_suspect_that_gives_up_lets_the_others_go_on():
    """A suspect whose client leaves, or whose time is up, holds nobody back."""

    async def scenario():
        dispatch, flights, newcomer = _ready(), [Flight(), Flight()], Flight()
        await _enter_all(dispatch, flights)
        dispatch.worker_gone(own_doing=True)
        dispatch.worker_ready(NEXT_WORKER)
        entering = asyncio.create_task(dispatch.enter(newcomer))
        for flight in flights:
            dispatch.close(flight)
        assert await asyncio.wait_for(entering, 5) is NEXT_WORKER

    asyncio.run(scenario())


@pytest.mark.parametrize("own_doing", [True, False])
def test_an_idle_worker_may_die_without_blaming_anybody(own_doing):
    """A death with nothing inside changes nothing for those who come after."""

    async def scenario():
        dispatch, flight = _ready(), Flight()
        dispatch.worker_gone(own_doing=own_doing)
        dispatch.worker_ready(NEXT_WORKER)
        assert await dispatch.enter(flight) is NEXT_WORKER
        assert not flight.suspect

    asyncio.run(scenario())
