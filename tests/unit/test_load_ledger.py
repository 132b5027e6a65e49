"""harden.load.ledger: the client's ledger equals the server's, or the difference is named."""

from __future__ import annotations

import dataclasses
import unittest

from hypothesis import given
from hypothesis import strategies as st

from harden.load.ledger import ClientLedger, reconcile
from harden.load.metrics_client import ServerSnapshot
from harden.load.records import Outcome, RequestRecord

EMPTY = ServerSnapshot(
    uptime_s=1.0,
    received=5,
    finished=5,
    in_flight=0,
    succeeded={"stop": 3},
    failed={"500": 2},
    prompt_tokens=30,
    generation_tokens=60,
    requests_with_usage=3,
    memory_mb={},
    mlx_active_mb=None,
    worker_starts=1,
)
SUCCESS = RequestRecord(
    scenario="sequential",
    stage="measured",
    streamed=True,
    intended_s=0.0,
    started_s=0.0,
    sent_s=0.0,
    end_s=1.0,
    outcome=Outcome.SUCCEEDED,
    status=200,
    finish_reason="stop",
    prompt_tokens=10,
    completion_tokens=20,
)
REFUSED = dataclasses.replace(
    SUCCESS,
    outcome=Outcome.REFUSED,
    status=500,
    finish_reason=None,
    prompt_tokens=None,
    completion_tokens=None,
    error="500: no",
)
BROKEN = dataclasses.replace(REFUSED, outcome=Outcome.BROKEN, status=200, error="worker died")
LOST = dataclasses.replace(REFUSED, outcome=Outcome.LOST, status=None, error="reset")


def after(*records: RequestRecord, **changes: int) -> ServerSnapshot:
    """The server after it counted these requests, as an honest one would."""
    succeeded, failed = dict(EMPTY.succeeded), dict(EMPTY.failed)
    usages = [record.usage for record in records if record.usage]
    for record in records:
        if record.succeeded:
            key = str(record.finish_reason)
            succeeded[key] = succeeded.get(key, 0) + 1
        else:
            failed["500"] = failed["500"] + 1
    honest = dataclasses.replace(
        EMPTY,
        received=EMPTY.received + len(records),
        finished=EMPTY.finished + len(records),
        succeeded=succeeded,
        failed=failed,
        prompt_tokens=EMPTY.prompt_tokens + sum(usage.prompt_tokens for usage in usages),
        generation_tokens=EMPTY.generation_tokens + sum(u.completion_tokens for u in usages),
        requests_with_usage=EMPTY.requests_with_usage + len(usages),
    )
    return dataclasses.replace(
        honest, **{name: getattr(honest, name) + change for name, change in changes.items()}
    )


def compare(records: list[RequestRecord], server: ServerSnapshot):
    return reconcile(ClientLedger.of(records), EMPTY, server)


class TestReconcile(unittest.TestCase):
    @given(st.lists(st.sampled_from([SUCCESS, REFUSED, BROKEN, LOST]), max_size=20))
    def test_an_honest_server_agrees(self, records: list[RequestRecord]):
        """Whatever happened to the requests, there is no difference where all was counted."""
        found = compare(records, after(*records))
        self.assertEqual((found.foreign, found.differences), (0, ()))

    @given(st.integers(1, 5), st.lists(st.sampled_from([SUCCESS, REFUSED]), max_size=20))
    def test_foreign_requests_are_counted(self, foreign: int, records: list[RequestRecord]):
        """What the server counted beyond what we sent is somebody else's."""
        server = after(*records, *[SUCCESS] * foreign)
        self.assertEqual(compare(records, server).foreign, foreign)

    def test_every_figure_is_compared(self):
        """A difference of one in any count is found and named."""
        records = [SUCCESS, SUCCESS, REFUSED]
        for field, name in (
            ("prompt_tokens", "prompt tokens"),
            ("generation_tokens", "generated tokens"),
            ("requests_with_usage", "answers with usage"),
            ("received", "requests"),
        ):
            for change in (-1, 1):
                found = compare(records, after(*records, **{field: change}))
                self.assertTrue(found.differences[0].startswith(name), (field, found))

    def test_finish_reasons_and_statuses_are_compared(self):
        """Right totals under wrong names are a difference."""
        wrong_reason = dataclasses.replace(SUCCESS, finish_reason="length")
        found = compare([SUCCESS], after(wrong_reason))
        self.assertEqual(len(found.differences), 2)
        self.assertIn("finished by length: we count 0, the server 1", found.differences)
        too_many = dataclasses.replace(REFUSED, status=429)
        self.assertIn(
            "status 429: we count 1, the server 0", compare([too_many], after(REFUSED)).differences
        )

    def test_success_here_failure_there(self):
        """A success that the server counts as failed is a difference."""
        self.assertTrue(compare([SUCCESS], after(REFUSED)).differences)

    def test_a_lost_request_leaves_an_interval(self):
        """It may have been received or not, and ended in any way; two may not."""
        for server in (after(SUCCESS), after(SUCCESS, SUCCESS), after(SUCCESS, REFUSED)):
            self.assertEqual(compare([SUCCESS, LOST], server).differences, ())
        self.assertTrue(compare([SUCCESS, LOST], after()).differences)
        self.assertEqual(compare([SUCCESS, LOST], after(*[SUCCESS] * 3)).foreign, 1)

    def test_a_lost_answers_tokens_may_be_counted_but_not_ours_forgotten(self):
        """With an answer lost the server may have more tokens, never fewer."""
        self.assertEqual(compare([SUCCESS, LOST], after(SUCCESS, SUCCESS)).differences, ())
        fewer = after(SUCCESS, SUCCESS, generation_tokens=-21)
        self.assertTrue(compare([SUCCESS, LOST], fewer).differences)


class TestRecord(unittest.TestCase):
    def test_round_trip(self):
        """A record survives the way from a Locust worker to its master."""
        for record in (SUCCESS, REFUSED, BROKEN, LOST):
            self.assertEqual(RequestRecord.from_dict(record.to_dict()), record)

    def test_times(self):
        """Latency counts from the intended start, TTFT from sending, both in ms."""
        record = dataclasses.replace(
            SUCCESS,
            intended_s=1.0,
            started_s=1.2,
            sent_s=1.5,
            first_token_s=2.0,
            last_token_s=3.9,
            end_s=4.0,
        )
        self.assertAlmostEqual(record.lag_ms, 200)
        self.assertEqual(record.latency_ms, 3000)
        self.assertEqual(record.ttft_ms, 500)
        self.assertAlmostEqual(record.inter_token_ms or 0, 100)
        self.assertIsNone(SUCCESS.ttft_ms)


if __name__ == "__main__":
    unittest.main()
