"""The client's ledger, and whether the server's says the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harden.load.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harden.load.metrics_client import ServerSnapshot
    from harden.load.records import RequestRecord

__all__ = ["ClientLedger", "Reconciliation", "reconcile"]


@dataclass(frozen=True, slots=True)
class ClientLedger:
    """Totals over request records.

    Attributes:
        sent: requests sent.
        succeeded: successes by finish reason.
        refused: requests whose answer had an error status, by that status.
        broken: requests whose answer began well and ended with an error.
        lost: requests whose transport failed.
        prompt_tokens: over answers with usage.
        completion_tokens: over answers with usage.
        with_usage: how many those were.
    """

    sent: int
    succeeded: Mapping[str, int]
    refused: Mapping[str, int]
    broken: int
    lost: int
    prompt_tokens: int
    completion_tokens: int
    with_usage: int

    @classmethod
    def of(cls, records: Iterable[RequestRecord]) -> ClientLedger:
        """Add up records."""
        everything = list(records)
        outcomes = Counter(record.outcome for record in everything)
        usages = [record.usage for record in everything if record.usage is not None]
        return cls(
            sent=len(everything),
            succeeded=Counter(str(r.finish_reason) for r in everything if r.succeeded),
            refused=Counter(str(r.status) for r in everything if r.outcome is Outcome.REFUSED),
            broken=outcomes[Outcome.BROKEN],
            lost=outcomes[Outcome.LOST],
            prompt_tokens=sum(usage.prompt_tokens for usage in usages),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            with_usage=len(usages),
        )


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What comparing the two ledgers found.

    Attributes:
        foreign: completion requests that the server counted and we did not send.
        differences: what else differs, each as a phrase; empty if the ledgers agree.
        summary: the agreed figures as a phrase.
    """

    foreign: int
    differences: tuple[str, ...]
    summary: str


def reconcile(
    client: ClientLedger, before: ServerSnapshot, after: ServerSnapshot
) -> Reconciliation:
    """Compare what we counted with what the server counted meanwhile.

    Without transport errors and answers that broke off, every figure has to be equal. Each of
    those leaves open how the server counted that one request, so figures may then lie in the
    interval between "it did not" and "it did".

    Args:
        client: totals of all requests sent between the two snapshots.
        before: the server at rest, before the first of them.
        after: the server at rest, after the last of them.
    """
    open_ended = client.lost + client.broken
    received = after.received - before.received
    with_usage = after.requests_with_usage - before.requests_with_usage
    comparisons = [
        _Comparison("requests", client.sent - client.lost, client.lost, received),
        _Comparison("answers with usage", client.with_usage, open_ended, with_usage),
        *_by_key("finished by", client.succeeded, before.succeeded, after.succeeded, open_ended),
        *_by_key("status", client.refused, before.failed, after.failed, open_ended),
        *_token_comparisons(client, before, after, exact=with_usage == client.with_usage),
    ]
    return Reconciliation(
        foreign=max(received - client.sent, 0),
        differences=tuple(c.phrase() for c in comparisons if not c.agrees()),
        summary=f"{client.sent} requests, {sum(client.refused.values()) + open_ended} errors, "
        f"{client.prompt_tokens} + {client.completion_tokens} tokens",
    )


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A figure of ours, how many more the server may have, and what it has."""

    name: str
    ours: int
    slack: int | None
    servers: int

    def agrees(self) -> bool:
        if self.slack is None:
            return self.servers >= self.ours
        return self.ours <= self.servers <= self.ours + self.slack

    def phrase(self) -> str:
        return f"{self.name}: we count {self.ours}, the server {self.servers}"


def _by_key(
    name: str,
    ours: Mapping[str, int],
    before: Mapping[str, int],
    after: Mapping[str, int],
    slack: int,
) -> list[_Comparison]:
    keys = sorted({*ours, *before, *after})
    return [
        _Comparison(
            f"{name} {key}", ours.get(key, 0), slack, after.get(key, 0) - before.get(key, 0)
        )
        for key in keys
    ]


def _token_comparisons(
    client: ClientLedger, before: ServerSnapshot, after: ServerSnapshot, *, exact: bool
) -> list[_Comparison]:
    slack = 0 if exact else None
    return [
        _Comparison(
            "prompt tokens",
            client.prompt_tokens,
            slack,
            after.prompt_tokens - before.prompt_tokens,
        ),
        _Comparison(
            "generated tokens",
            client.completion_tokens,
            slack,
            after.generation_tokens - before.generation_tokens,
        ),
    ]
