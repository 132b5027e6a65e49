"""harden.load.plan: what is sent is fixed in number and length, and never the same twice."""

from __future__ import annotations

import unittest

from hypothesis import given
from hypothesis import strategies as st

from harden.exceptions import ValidationError
from harden.load.plan import (
    DEFAULT_SIZES,
    Release,
    Sizes,
    parse_scenarios,
    prompt_text,
    releases_of,
    requests_of,
)


class TestScenarios(unittest.TestCase):
    def test_the_main_job(self):
        """100 sequential requests of one user, at least 50 concurrent ones of ten users."""
        sequential, concurrent = parse_scenarios("", DEFAULT_SIZES)
        self.assertEqual((sequential.name, sequential.users), ("sequential", 1))
        self.assertEqual(sequential.rounds * sequential.requests_each, 100)
        self.assertGreater(sequential.warm_up, 0)
        self.assertEqual((concurrent.name, concurrent.users), ("concurrent", 10))
        self.assertGreaterEqual(concurrent.rounds, 5)
        self.assertGreaterEqual(10 * concurrent.rounds * concurrent.requests_each, 50)

    def test_order_and_blanks(self):
        """The list's order is the run's order; spaces and empty places do not matter."""
        names = [s.name for s in parse_scenarios(" concurrent ,, sequential", DEFAULT_SIZES)]
        self.assertEqual(names, ["concurrent", "sequential"])

    def test_unknown(self):
        """The message has the bad name and the good ones."""
        with self.assertRaisesRegex(ValidationError, "'parallel'.*sequential, concurrent"):
            parse_scenarios("sequential,parallel", DEFAULT_SIZES)

    def test_sizes(self):
        """Each size reaches its scenario."""
        sizes = Sizes(warm_up=2, requests=3, rounds=4, max_tokens=5)
        sequential, concurrent = parse_scenarios("", sizes)
        self.assertEqual(sequential.total, 2 + 3)
        self.assertEqual(concurrent.total, 10 * (1 + 4))
        self.assertEqual({sequential.max_tokens, concurrent.max_tokens}, {5})

    def test_sizes_that_leave_nothing(self):
        """A run without requests is refused before it starts; no warm-up is allowed."""
        self.assertEqual(Sizes(warm_up=0).warm_up, 0)
        for field in ("requests", "rounds", "max_tokens"):
            with self.assertRaisesRegex(ValidationError, f"--{field.replace('_', '-')} is 0"):
                Sizes(**{field: 0})
        with self.assertRaises(ValidationError):
            Sizes(warm_up=-1)


class TestReleases(unittest.TestCase):
    def test_rounds_add_up(self):
        """What the releases ask of all users is the scenario's total."""
        for scenario in parse_scenarios("", DEFAULT_SIZES):
            warm_up, measured = releases_of(scenario, seed=1)
            asked = sum(release.requests for release in [*warm_up, *measured])
            self.assertEqual(asked * scenario.users, scenario.total)
            self.assertEqual({release.stage for release in measured}, {"measured"})

    def test_concurrent_rounds_take_turns(self):
        """Streamed and unstreamed answers are both tried; sequential ones are all streamed."""
        sequential, concurrent = parse_scenarios("", DEFAULT_SIZES)
        self.assertEqual({r.streamed for r in releases_of(sequential, 1)[1]}, {True})
        self.assertEqual({r.streamed for r in releases_of(concurrent, 1)[1]}, {True, False})

    def test_answers_as_asked_for(self):
        """The operator can have all answers streamed, or none."""
        for answers, expected in (("streamed", {True}), ("whole", {False})):
            for scenario in parse_scenarios("", Sizes(answers=answers)):
                self.assertEqual({r.streamed for r in releases_of(scenario, 1)[1]}, expected)

    def test_prompts_as_long_as_asked_for(self):
        """The length of the prompts goes into every request."""
        scenario = parse_scenarios("concurrent", Sizes(prompt_characters=77))[0]
        release = releases_of(scenario, 1)[1][0]
        self.assertEqual({len(r.prompt) for r in requests_of(release, "user")}, {77})

    def test_an_unknown_kind_of_answer(self):
        """It is refused with the ones that there are."""
        with self.assertRaisesRegex(ValidationError, "choose among mixed, streamed, whole"):
            Sizes(answers="none")

    def test_sizes_survive_a_command_line(self):
        """What one program hands the other as options means the same there."""
        sizes = Sizes(warm_up=1, requests=2, rounds=3, max_tokens=4, answers="whole")
        words = iter(sizes.arguments())
        given = {
            flag[2:].replace("-", "_"): value for flag, value in zip(words, words, strict=True)
        }
        self.assertEqual(given["answers"], "whole")
        self.assertEqual(
            {k: int(v) for k, v in given.items() if k != "answers"},
            {"warm_up": 1, "requests": 2, "rounds": 3, "max_tokens": 4, "prompt_characters": 200},
        )

    def test_no_warm_up(self):
        """Then there is no release for it."""
        sequential = parse_scenarios("sequential", Sizes(warm_up=0))[0]
        self.assertEqual(list(releases_of(sequential, 1)[0]), [])

    def test_round_trip(self):
        """A release survives the way to a Locust worker."""
        release = releases_of(parse_scenarios("", DEFAULT_SIZES)[0], 7)[1][0]
        self.assertEqual(Release(**release.to_dict()), release)


class TestPrompts(unittest.TestCase):
    @given(st.text(), st.integers(0, 500))
    def test_length_is_exact(self, key: str, characters: int):
        """Every prompt has the characters asked for, and is the same for the same key."""
        self.assertEqual(len(prompt_text(key, characters)), characters)
        self.assertEqual(prompt_text(key, characters), prompt_text(key, characters))

    def test_no_two_prompts_of_a_run_are_equal(self):
        """No user, round, number or run repeats another's text, so no cache answers for it."""
        prompts = set()
        count = 0
        for seed in (1, 2):
            for scenario in parse_scenarios("", DEFAULT_SIZES):
                warm_up, measured = releases_of(scenario, seed)
                for user in map(str, range(scenario.users)):
                    for release in (*warm_up, *measured):
                        for request in requests_of(release, user):
                            prompts.add(request.prompt)
                            count += 1
        self.assertEqual(len(prompts), count)


if __name__ == "__main__":
    unittest.main()
