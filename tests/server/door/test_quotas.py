"""What one client may have at once."""

from __future__ import annotations

import pytest

from latent_inv.errors import LimitError
from latent_inv_server.door.identity import Caller, Quotas
from latent_inv_server.door.quotas import Calls, check_queued, check_upload, may_run
from latent_inv_server.store.records import JobState


def test_jobs_that_wait() -> None:
    alice = Caller("alice", Quotas(queued_jobs=2))
    # Those that run, or are over, do not wait.
    check_queued(alice, {JobState.queued: 1, JobState.running: 50, JobState.succeeded: 500})
    check_queued(alice, {})
    with pytest.raises(LimitError, match="2 of your jobs are waiting, at most 2") as caught:
        check_queued(alice, {JobState.queued: 2})
    assert caught.value.retry_after == 5
    check_queued(Caller("bob"), {JobState.queued: 10**6})


def test_a_client_that_may_have_none_need_not_try_again() -> None:
    with pytest.raises(LimitError) as caught:
        check_queued(Caller("alice", Quotas(queued_jobs=0)), {})
    assert caught.value.retry_after is None


def test_jobs_that_run() -> None:
    assert may_run(Quotas(running_jobs=2), 1)
    assert not may_run(Quotas(running_jobs=2), 2)
    assert may_run(Quotas(), 10**6)


def test_uploads() -> None:
    alice = Caller("alice", Quotas(upload_bytes=100))
    check_upload(alice, 60, 40)
    with pytest.raises(LimitError, match="41 bytes more would make 101, at most 100") as caught:
        check_upload(alice, 60, 41)
    assert caught.value.retry_after is not None
    with pytest.raises(LimitError) as caught:
        check_upload(alice, 0, 101)
    assert caught.value.retry_after is None, "it will never fit"
    check_upload(Caller("bob"), 2**60, 2**60)


def test_calls_are_counted_for_each_and_for_all() -> None:
    calls = Calls(3, 2)
    for name in ("alice", "alice", "bob"):
        calls.enter(name)
    with pytest.raises(LimitError, match="2 of your calls"):
        calls.enter("alice")
    with pytest.raises(LimitError, match="3 calls are open"):
        calls.enter("carol")
    assert calls.total == 3, "a refused call does not count"
    calls.leave("alice")
    calls.enter("carol")
    for name in ("alice", "bob", "carol"):
        calls.leave(name)
    assert calls.total == 0
    assert calls._open == {}, "nothing is remembered of clients that are gone"
