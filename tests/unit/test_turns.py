"""One at a time: others wait for their turn, and those who cannot are told to come again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ramq.web.turns import BusyError, Turns


def test_one_is_inside_and_the_others_wait() -> None:
    turns, inside, most = Turns(waiting=7), 0, 0

    def enter(_: int) -> None:
        nonlocal inside, most
        with turns.turn():
            inside += 1
            most = max(most, inside)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(200)))
    assert most == 1


def test_who_finds_no_place_or_waits_too_long_is_told_so() -> None:
    for turns in (Turns(waiting=0), Turns(waiting=1, seconds=0.01)):
        with turns.turn(), pytest.raises(BusyError) as refused, turns.turn():
            pass
        assert (refused.value.status_code, refused.value.headers) == (429, {"Retry-After": "10"})
        with turns.turn():  # nothing stays taken
            pass


def test_a_turn_ends_with_an_error() -> None:
    turns = Turns(waiting=0)
    with pytest.raises(ValueError, match="broken"), turns.turn():
        raise ValueError("broken")
    with turns.turn():
        pass
