"""Admission: places, queue, and every way out."""

import asyncio

import pytest

from harden.gateway.admission import Admission
from harden.gateway.refusal import Refusal


async def _hold(admission, order, name, release):
    async with admission.place():
        order.append(name)
        await release.wait()


async def _settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_places_are_given_first_come_first_served():
    """No more than max_running hold a place; the others get theirs in order of arrival."""

    async def scenario():
        admission, order, release = Admission(2, 8), [], asyncio.Event()
        tasks = [asyncio.create_task(_hold(admission, order, n, release)) for n in range(5)]
        await _settle()
        assert (order, admission.running, admission.waiting) == ([0, 1], 2, 3)
        release.set()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(scenario())


def test_a_full_queue_refuses_with_429_and_a_time():
    """Beyond the queue's length a request is told when to come again."""

    async def scenario():
        admission, order, release = Admission(1, 1), [], asyncio.Event()
        tasks = [asyncio.create_task(_hold(admission, order, n, release)) for n in range(2)]
        await _settle()
        with pytest.raises(Refusal) as caught:
            async with admission.place():
                pass
        assert caught.value.answer.status == 429
        assert int(caught.value.answer.headers["Retry-After"]) >= 1
        release.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_request_that_leaves_gives_its_place_back(victim):
    """Cancelled while running, first in the queue or further back: nobody's place is lost."""

    async def scenario():
        admission, order, release = Admission(1, 8), [], asyncio.Event()
        tasks = [asyncio.create_task(_hold(admission, order, n, release)) for n in range(3)]
        await _settle()
        tasks[victim].cancel()
        await _settle()
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [n for n in order if n != victim] == [n for n in range(3) if n != victim]
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(scenario())


def test_leaving_at_the_very_moment_of_being_let_in_passes_the_place_on():
    """A place handed to a request that is cancelled in the same step goes to the next."""

    async def scenario():
        admission, order, release = Admission(1, 8), [], asyncio.Event()
        async with admission.place():
            second = asyncio.create_task(_hold(admission, order, 1, release))
            third = asyncio.create_task(_hold(admission, order, 2, release))
            await _settle()
            release.set()
        second.cancel()  # its turn is set, and it has not run since
        await asyncio.gather(second, third, return_exceptions=True)
        assert order == [2]
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(scenario())
