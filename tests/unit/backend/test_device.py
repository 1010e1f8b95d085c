"""The device queue: one job at a time, equal jobs once, forgotten jobs never, some gently."""

import threading

import pytest
import torch

from backend.device import DeviceQueue, gently


@pytest.fixture
def queue():
    made = DeviceQueue()
    yield made
    made.close()


class Job:
    """Counts its runs; waits for `go`."""

    def __init__(self, result: object = "done") -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.result, self.runs = result, 0

    def __call__(self) -> object:
        self.runs += 1
        self.begun.set()
        assert self.go.wait(30)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_jobs_run_one_after_the_other(queue: DeviceQueue):
    first, second = Job("a"), Job("b")
    tickets = [queue.submit("first", first), queue.submit("second", second)]
    assert first.begun.wait(30)
    assert not second.begun.is_set()

    first.go.set()
    second.go.set()

    assert [ticket.wait(30) for ticket in tickets] == ["a", "b"]


def test_equal_jobs_run_once_and_everybody_gets_the_result(queue: DeviceQueue):
    job = Job()
    tickets = [queue.submit("same", job) for _ in range(3)]
    job.go.set()

    assert [ticket.wait(30) for ticket in tickets] == ["done"] * 3
    assert job.runs == 1


def test_a_finished_job_is_forgotten(queue: DeviceQueue):
    job = Job()
    job.go.set()
    queue.submit("same", job).wait(30)
    queue.submit("same", job).wait(30)

    assert job.runs == 2


def test_a_failure_reaches_everybody_and_is_not_kept(queue: DeviceQueue):
    bad, good = Job(ValueError("no")), Job("yes")
    tickets = [queue.submit("same", bad), queue.submit("same", bad)]
    bad.go.set()
    for ticket in tickets:
        with pytest.raises(ValueError, match="no"):
            ticket.wait(30)

    good.go.set()

    assert queue.submit("same", good).wait(30) == "yes"


def test_a_job_everybody_left_is_never_begun(queue: DeviceQueue):
    blocker, job = Job(), Job()
    held = queue.submit("blocker", blocker)
    assert blocker.begun.wait(30)
    with pytest.raises(TimeoutError):
        queue.submit("job", job).wait(0.0)

    blocker.go.set()
    held.wait(30)
    last = Job()
    last.go.set()
    queue.submit("last", last).wait(30)

    assert job.runs == 0


def test_a_job_somebody_still_waits_for_is_done(queue: DeviceQueue):
    blocker, job = Job(), Job()
    held = queue.submit("blocker", blocker)
    assert blocker.begun.wait(30)
    patient = queue.submit("job", job)
    queue.submit("job", job).leave()

    blocker.go.set()
    job.go.set()

    assert held.wait(30) == patient.wait(30) == "done"


def test_leaving_twice_is_leaving_once(queue: DeviceQueue):
    blocker, job = Job(), Job()
    queue.submit("blocker", blocker)
    assert blocker.begun.wait(30)
    one, two = queue.submit("job", job), queue.submit("job", job)
    one.leave()
    one.leave()

    blocker.go.set()
    job.go.set()

    assert two.wait(30) == "done"


@pytest.mark.parametrize(("usual", "fewer"), [(1, 1), (2, 1), (5, 2)])
def test_it_takes_half_of_the_threads_and_gives_them_back(usual: int, fewer: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(usual)
    try:
        with gently():
            assert torch.get_num_threads() == fewer
        assert torch.get_num_threads() == usual
    finally:
        torch.set_num_threads(before)
