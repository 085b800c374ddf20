"""The largest token budget whose iteration stays within a target."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.sched import token_budget_for


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.data())
def test_it_is_what_looking_at_every_budget_finds(steps, data):
    seconds = [sum(steps[: n + 1]) for n in range(len(steps))]  # of n + 1 tokens
    least = data.draw(st.integers(1, len(steps)))
    target = data.draw(st.integers(seconds[least - 1], seconds[-1] + 1))
    wanted = max(n for n in range(least, len(steps) + 1) if seconds[n - 1] <= target)
    asked = []

    def times(num_tokens):
        asked.append(num_tokens)
        return seconds[num_tokens - 1]

    assert token_budget_for(target, times, least=least, most=len(steps)) == wanted
    assert max(asked) <= max(least, 2 * wanted)
    assert len(asked) <= 2 * len(steps).bit_length() + 1


@given(st.lists(st.floats(0.5, 1.5), min_size=64, max_size=64))
def test_of_times_that_are_noisy_it_finds_a_budget_that_stayed_within(noise):
    seconds = {n: n * factor for n, factor in enumerate(noise, 1)}
    budget = token_budget_for(24.0, seconds.__getitem__, most=64)
    assert seconds[budget] <= 24


def test_a_target_that_the_smallest_iteration_exceeds_is_refused():
    message = "an iteration of 9 tokens takes 0.09 s, more than the target of 0.05 s: give a longer one"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        token_budget_for(0.05, lambda n: n / 100, least=9)


@pytest.mark.parametrize(("least", "most"), [(0, 5), (6, 5)])
def test_bounds_are_checked(least, most):
    with pytest.raises(ValueError, match=rf"^least and most must be 1 <= least <= most, got {least} and {most}$"):
        token_budget_for(1.0, lambda _: 0.0, least=least, most=most)
