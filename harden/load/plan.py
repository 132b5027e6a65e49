"""The scenarios: how many users, how many requests, which prompts."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harden.exceptions import ValidationError
from harden.load.client import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "DEFAULT_SCENARIOS",
    "DEFAULT_SIZES",
    "SCENARIOS",
    "SIZE_OPTIONS",
    "Release",
    "Scenario",
    "Sizes",
    "parse_scenarios",
    "prompt_text",
    "releases_of",
    "requests_of",
    "size_flag",
]

_WORDS = (
    "amber bridge cedar delta ember falcon garden harbor island juniper kettle lantern meadow "
    "nectar orchard pebble quarry river saddle timber umbra valley willow yonder zephyr"
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A closed loop: users that are released together, round after round.

    Attributes:
        name: what the operator calls it.
        users: how many send at the same time.
        warm_up: requests of each user before anything is measured.
        rounds: how often the users are released together.
        requests_each: requests of each user in a round, one after the other.
        max_tokens: most tokens to generate a request.
        prompt_characters: length of every prompt.
        answers: "streamed", "whole", or "mixed": every second round whole.
    """

    name: str
    users: int
    warm_up: int
    rounds: int
    requests_each: int
    max_tokens: int
    prompt_characters: int
    answers: str

    @property
    def total(self) -> int:
        """All requests of the scenario, warm-up included."""
        return self.users * (self.warm_up + self.rounds * self.requests_each)


@dataclass(frozen=True, slots=True)
class Release:
    """What every user is told at the start of a round.

    Attributes:
        scenario: name of the scenario.
        stage: "warm-up" or "measured".
        round: number of the round within the scenario, the warm-up being 0.
        requests: how many requests each user sends.
        streamed: whether to ask for events.
        max_tokens: most tokens to generate a request.
        prompt_characters: length of every prompt.
        seed: makes the prompts of one run differ from those of the next.
    """

    scenario: str
    stage: str
    round: int
    requests: int
    streamed: bool
    max_tokens: int
    prompt_characters: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a message between processes."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the operator may make smaller or larger; the defaults are those of the main job.

    Attributes:
        warm_up: requests of the sequential scenario that are not measured.
        requests: measured requests of the sequential scenario.
        rounds: rounds of the concurrent scenario.
        max_tokens: most tokens to generate a request.
        prompt_characters: length of every prompt.
        answers: "streamed", "whole", or what each scenario does by itself ("mixed").
    """

    warm_up: int = 10
    requests: int = 100
    rounds: int = 6
    max_tokens: int = 32
    prompt_characters: int = 200
    answers: str = "mixed"

    def __post_init__(self) -> None:
        """Refuse sizes that leave nothing to do."""
        for name in SIZE_OPTIONS:
            value = getattr(self, name)
            if name == "answers":
                wrong, fix = value not in ANSWERS, f"choose among {', '.join(ANSWERS)}"
            else:
                smallest = 0 if name == "warm_up" else 1
                wrong, fix = value < smallest, f"give {smallest} or more"
            if wrong:
                flag = size_flag(name)
                message = f"{flag} is {value}; {fix}"
                raise ValidationError(message, setting=flag, value=value, fix=fix)

    @classmethod
    def of(cls, options: Any) -> Sizes:
        """Read the attributes of the same names, of argparse's namespace say.

        Raises:
            ValidationError: a size that leaves nothing to do.
        """
        return cls(**{name: getattr(options, name) for name in SIZE_OPTIONS})

    def arguments(self) -> list[str]:
        """Return the sizes as a command line."""
        pairs = ((size_flag(name), str(getattr(self, name))) for name in SIZE_OPTIONS)
        return [word for pair in pairs for word in pair]


ANSWERS = ("mixed", "streamed", "whole")
SIZE_OPTIONS: Mapping[str, str] = {
    "warm_up": "requests before the sequential scenario measures",
    "requests": "measured requests of the sequential scenario",
    "rounds": "rounds of the concurrent scenario, 10 requests each",
    "max_tokens": "most tokens to generate a request",
    "prompt_characters": "length of every prompt",
    "answers": f"{', '.join(ANSWERS)}: how answers are asked for",
}
"""Name and help of each size that can be chosen on a command line."""


def size_flag(name: str) -> str:
    """Return the option of a size."""
    return "--" + name.replace("_", "-")


DEFAULT_SIZES = Sizes()


def _sequential(sizes: Sizes) -> Scenario:
    return Scenario(
        "sequential",
        users=1,
        warm_up=sizes.warm_up,
        rounds=1,
        requests_each=sizes.requests,
        max_tokens=sizes.max_tokens,
        prompt_characters=sizes.prompt_characters,
        answers="streamed" if sizes.answers == "mixed" else sizes.answers,
    )


def _concurrent(sizes: Sizes) -> Scenario:
    return Scenario(
        "concurrent",
        users=10,
        warm_up=1,
        rounds=sizes.rounds,
        requests_each=1,
        max_tokens=sizes.max_tokens,
        prompt_characters=sizes.prompt_characters,
        answers=sizes.answers,
    )


SCENARIOS: Mapping[str, Callable[[Sizes], Scenario]] = {
    "sequential": _sequential,
    "concurrent": _concurrent,
}
DEFAULT_SCENARIOS = ",".join(SCENARIOS)


def parse_scenarios(text: str, sizes: Sizes) -> tuple[Scenario, ...]:
    """Return the scenarios that a comma list names, in its order.

    Args:
        text: names, as in "sequential,concurrent"; blank means the default.
        sizes: how much of each.

    Raises:
        ValidationError: there is no scenario of that name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SCENARIOS:
            fix = f"choose among {', '.join(SCENARIOS)}"
            message = f"unknown scenario {name!r}; {fix}"
            raise ValidationError(message, setting="--scenario", value=name, fix=fix)
    return tuple(SCENARIOS[name](sizes) for name in names or DEFAULT_SCENARIOS.split(","))


def releases_of(scenario: Scenario, seed: int) -> tuple[Sequence[Release], Sequence[Release]]:
    """Return the rounds of the warm-up and the measured rounds.

    Args:
        scenario: the scenario.
        seed: seed of the run.
    """

    def release(stage: str, number: int, requests: int) -> Release:
        streamed = {"streamed": True, "whole": False}.get(scenario.answers, number % 2 == 0)
        sizes = (scenario.max_tokens, scenario.prompt_characters)
        return Release(scenario.name, stage, number, requests, streamed, *sizes, seed)

    warm_up = [release("warm-up", 0, scenario.warm_up)] if scenario.warm_up else []
    measured = [
        release("measured", number, scenario.requests_each)
        for number in range(1, scenario.rounds + 1)
    ]
    return warm_up, measured


def requests_of(release: Release, user: str) -> Iterator[ChatRequest]:
    """Yield the requests that one user sends in a round.

    Args:
        release: the round.
        user: a name that no other user of the run has.
    """
    for number in range(release.requests):
        key = f"{release.seed} {release.scenario} {user} {release.round} {number}"
        yield ChatRequest(
            scenario=release.scenario,
            stage=release.stage,
            prompt=prompt_text(key, release.prompt_characters),
            max_tokens=release.max_tokens,
            streamed=release.streamed,
        )


def prompt_text(key: str, characters: int) -> str:
    """Return a text of plain words: always the same for a key, another one for another key.

    Args:
        key: whatever tells this prompt from others.
        characters: exact length of the text.
    """
    chosen = random.Random(key).choices(_WORDS.split(), k=characters)  # noqa: S311 - no secret
    return " ".join(chosen)[:characters]
