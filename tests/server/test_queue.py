"""Whose job is next, as laws over any order of events."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from latent_inv_server.queue import BULK_EVERY, Queue

CLIENTS = ("ada", "bob", "cy")
JOBS = st.lists(st.tuples(st.sampled_from(CLIENTS), st.booleans()), max_size=40)


def filled(jobs: list[tuple[str, bool]], most: int | None = None) -> Queue:
    queue = Queue(lambda client: most)
    for number, (client, bulk) in enumerate(jobs):
        queue.add(str(number), client, bulk)
    return queue


def drain(queue: Queue) -> list[str]:
    taken = []
    while (job_id := queue.take()) is not None:
        taken.append(job_id)
    return taken


@given(JOBS)
def test_each_is_taken_once_and_first_come_is_first_served_within_a_client(jobs: list[tuple[str, bool]]) -> None:
    queue = filled(jobs)
    taken = [int(job_id) for job_id in drain(queue)]
    assert sorted(taken) == list(range(len(jobs)))
    assert (len(queue), queue.taken) == (0, len(jobs))
    for place in set(jobs):
        own = [number for number in taken if jobs[number] == place]
        assert own == sorted(own)


@given(JOBS)
def test_interactive_before_bulk_and_bulk_never_starves(jobs: list[tuple[str, bool]]) -> None:
    taken = [jobs[int(job_id)][1] for job_id in drain(filled(jobs))]
    passed_over = 0
    for place, bulk in enumerate(taken):
        if bulk:
            interactive_waits = False in taken[place:]
            assert not interactive_waits or passed_over == BULK_EVERY - 1, "only when it is due"
            passed_over = 0
        elif True in taken[place:]:
            passed_over += 1
            assert passed_over <= BULK_EVERY - 1


@settings(max_examples=200)
@given(jobs=JOBS, ends=st.lists(st.integers(0, 39), max_size=40), places=st.integers(1, 5))
def test_the_client_with_the_fewest_running_is_next(jobs: list[tuple[str, bool]], ends: list[int], places: int) -> None:
    queue = filled([(client, False) for client, _ in jobs])
    waiting = Counter(client for client, _ in jobs)
    running: list[str] = []
    for end in ends:
        while len(running) < places and (job_id := queue.take()) is not None:
            client = jobs[int(job_id)][0]
            able = [other for other in CLIENTS if waiting[other]]
            assert running.count(client) == min(running.count(other) for other in able)
            waiting[client] -= 1
            running.append(client)
            assert [queue.running(other) for other in CLIENTS] == [running.count(other) for other in CLIENTS]
        if running:
            queue.leave(running.pop(end % len(running)))


@given(st.integers(2, 20))
def test_one_place_goes_round(count: int) -> None:
    queue = filled([(client, False) for client in CLIENTS for _ in range(count)])
    order = []
    while (job_id := queue.take()) is not None:
        client = CLIENTS[int(job_id) // count]
        order.append(client)
        queue.leave(client)
    assert order == list(CLIENTS) * count


@given(jobs=JOBS, most=st.integers(1, 3))
def test_no_client_runs_more_than_it_may(jobs: list[tuple[str, bool]], most: int) -> None:
    queue = filled(jobs, most)
    taken = Counter(jobs[int(job_id)][0] for job_id in drain(queue))
    asked = Counter(client for client, _ in jobs)
    assert taken == {client: min(most, number) for client, number in asked.items()}
    for client in taken:
        assert queue.waiting(client) == asked[client] - taken[client]


@given(jobs=JOBS, removed=st.sets(st.integers(0, 39)))
def test_what_is_removed_is_never_taken(jobs: list[tuple[str, bool]], removed: set[int]) -> None:
    queue = filled(jobs)
    for number in removed:
        assert queue.remove(str(number)) == (number < len(jobs))
        assert not queue.remove(str(number))
    assert {int(job_id) for job_id in drain(queue)} == set(range(len(jobs))) - removed


def test_a_job_that_had_its_turn_goes_before_its_like() -> None:
    queue = filled([("ada", True), ("ada", True)])
    queue.add("again", "ada", True, first=True)
    assert drain(queue) == ["again", "0", "1"]


def test_names_of_clients_that_are_gone_are_forgotten() -> None:
    queue = Queue()
    for number in range(1000):
        queue.add("job", f"client {number}", False)
        queue.take()
        queue.leave(f"client {number}")
    assert not queue._served
    assert not queue._running
    assert not any(queue._waiting.values())
