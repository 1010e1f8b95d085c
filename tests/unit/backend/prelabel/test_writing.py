"""Predictions reach Label Studio once, in batches, whatever happens to a request."""

import logging
import threading

import pytest

from backend.errors import StudioAway, StudioRefused
from backend.jobs.base import Stopped
from backend.prelabel import writing
from backend.prelabel.progress import Progress
from backend.prelabel.writing import MOST_TASKS, OLDEST, SOONEST, TRIES, WAITING, once_each
from backend.studio.client import Patience, Studio
from backend.studio.project import StudioProject

from ....doubles.moments import Moments
from ....doubles.studio_server import LEGACY_TOKEN, Fault, StudioServer, soon
from .conftest import THEIRS, VERSION, MakeWriter, fill, prediction

WRITE = "POST .*/import/predictions"


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [one for one in threading.enumerate() if one.name == "writer"]


@pytest.fixture
def tasks(server: StudioServer, project: StudioProject) -> list[int]:
    return server.ids(project.id)


def bodies(server: StudioServer) -> list[list[int]]:
    """Tasks of every batch that was sent."""
    return [[one["task"] for one in call.body] for call in server.asked(WRITE)]


def stored(server: StudioServer, tasks: list[int]) -> list[list[str]]:
    return [server.versions(task) for task in tasks]


# -- batches ----------------------------------------------------------------------------------


def test_nothing_to_write_asks_nothing(server: StudioServer, make_writer: MakeWriter):
    with make_writer() as writer:
        writer.tick()

    assert server.calls == []


def test_a_batch_is_written_when_it_has_enough_tasks(
    server: StudioServer, project: StudioProject, make_writer: MakeWriter
):
    tasks = server.add(project.id, *[{}] * (2 * MOST_TASKS + 1))

    with make_writer() as writer:
        fill(writer, tasks)

    assert [len(one) for one in bodies(server)] == [MOST_TASKS, MOST_TASKS, 1]
    assert stored(server, tasks) == [[VERSION]] * len(tasks)


def test_a_batch_is_written_when_it_is_large(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writing, "MOST_BYTES", 1000)

    with make_writer() as writer:
        for task, padding in zip(tasks, (10, 2000, 400, 600, 0), strict=True):
            writer.add(task, prediction(padding=padding))

    assert bodies(server) == [tasks[:2], tasks[2:4], tasks[4:]]


def test_a_batch_is_written_when_it_has_waited(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, moments: Moments
):
    with make_writer() as writer:
        writer.add(tasks[0], prediction())
        moments.now += SOONEST
        writer.tick()
        assert bodies(server) == []
        moments.now += 0.1
        writer.tick()
        soon(lambda: stored(server, tasks[:1]) == [[VERSION]])
        moments.now += 100
        writer.add(tasks[1], prediction())
        writer.tick()
        assert len(bodies(server)) == 1, "a new batch has its own time"


def test_later_batches_wait_longer_for_company(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, moments: Moments
):
    waited = []
    with make_writer() as writer:
        for task in tasks[:5]:
            writer.add(task, prediction())
            before, written = moments.now, len(bodies(server))
            while len(bodies(server)) == written:
                moments.now += SOONEST
                writer.tick()
                if moments.now - before > waited_for(len(waited)):
                    soon(lambda: len(bodies(server)) > written)  # noqa: B023
            waited.append(moments.now - before)

    assert waited == sorted(waited)
    assert waited[-1] <= OLDEST + SOONEST


def waited_for(batches: int) -> float:
    return min(SOONEST * 2**batches, OLDEST)


def test_whoever_predicts_waits_while_the_writer_is_behind(
    server: StudioServer, project: StudioProject, make_writer: MakeWriter
):
    tasks = server.add(project.id, *[{}] * (10 * MOST_TASKS))
    gate = threading.Event()
    server.fail(only="GET /api/tasks", gate=gate)
    taken: list[int] = []

    def predict() -> None:
        with make_writer() as writer:
            for task in tasks:
                writer.add(task, prediction())
                taken.append(task)

    thread = threading.Thread(target=predict)
    thread.start()
    # one batch being written, some waiting, and one that cannot be passed on
    soon(lambda: len(taken) == (WAITING + 2) * MOST_TASKS - 1)
    gate.set()
    thread.join()

    assert stored(server, tasks) == [[VERSION]] * len(tasks)


# -- once -------------------------------------------------------------------------------------


def test_what_is_there_already_is_not_written_again(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, progress: Progress
):
    server.predict(tasks[1], VERSION)

    with make_writer() as writer:
        fill(writer, tasks)

    assert stored(server, tasks) == [[VERSION]] * 5
    assert progress["written"] == 5


def test_tasks_that_went_meanwhile_are_counted_as_gone(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, progress: Progress
):
    server.remove(tasks[0])
    told: list[int] = []

    with make_writer(written=told.extend) as writer:
        fill(writer, tasks)

    assert (progress["written"], progress["gone"], progress.failed) == (4, 1, 0)
    assert told == tasks[1:]


def test_a_task_that_goes_between_question_and_write_costs_nobody_else(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, progress: Progress
):
    def remove(call) -> None:
        if "import/predictions" in call.path and tasks[2] in server.tasks:
            server.remove(tasks[2])

    server.before = remove
    with make_writer() as writer:
        fill(writer, tasks)

    assert [len(one) for one in stored(server, tasks)] == [1, 1, 0, 1, 1]
    assert (progress["written"], progress["gone"], progress.failed) == (4, 1, 0)


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 502}, {"status": 500}])
@pytest.mark.parametrize("replacing", [True, False])
def test_an_uncertain_write_ends_as_one_prediction_each(
    server: StudioServer,
    tasks: list[int],
    make_writer: MakeWriter,
    progress: Progress,
    fault: dict,
    done: bool,
    replacing: bool,
):
    server.fail(times=TRIES - 1, only=WRITE, done=done, **fault)

    with make_writer(replacing=replacing) as writer:
        fill(writer, tasks)

    assert stored(server, tasks) == [[VERSION]] * 5
    assert (progress["written"], progress.failed) == (5, 0)


def test_a_write_that_happened_at_the_last_uncertain_try_has_not_failed(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, progress: Progress
):
    server.fail(times=TRIES - 1, only=WRITE, drop=True)
    server.fail(times=1, only=WRITE, drop=True, done=True)

    with make_writer() as writer:
        writer.add(tasks[0], prediction())

    assert stored(server, tasks[:1]) == [[VERSION]]
    assert (progress["written"], progress.failed) == (1, 0)


def test_a_restart_in_the_middle_is_survived(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, moments: Moments
):
    server.down()

    def back(seconds: float) -> None:
        if len(moments.paused) == 3:
            server.up()

    moments.on_pause = back
    with make_writer() as writer:
        fill(writer, tasks)

    assert stored(server, tasks) == [[VERSION]] * 5


# -- what Label Studio refuses ----------------------------------------------------------------


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("bad", [{0}, {4}, {1, 2}, {0, 1, 2, 3, 4}])
def test_predictions_that_do_not_fit_cost_nobody_else(
    server: StudioServer,
    tasks: list[int],
    make_writer: MakeWriter,
    progress: Progress,
    strict: bool,
    bad: set[int],
):
    server.strict = strict

    with make_writer() as writer:
        for place, task in enumerate(tasks):
            writer.add(task, prediction("nobody" if place in bad else "seg"))

    assert stored(server, tasks) == [[] if n in bad else [VERSION] for n in range(5)]
    assert progress["written"] == 5 - len(bad)
    assert progress.failures["refused"].tasks == [tasks[n] for n in sorted(bad)]


def test_one_that_is_refused_does_not_hide_who_was_there_or_is_gone(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, progress: Progress
):
    server.predict(tasks[1], VERSION)
    server.remove(tasks[2])
    told: list[int] = []

    with make_writer(written=told.extend) as writer:
        writer.add(tasks[0], prediction("nobody"))
        fill(writer, tasks[1:])

    assert (progress["written"], progress["gone"], progress.failed) == (3, 1, 1)
    assert sorted(told) == [tasks[1], *tasks[3:]]


def test_a_batch_that_is_too_large_for_a_proxy_is_halved(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter
):
    def proxy(call) -> Fault | None:
        big = call.path.endswith("import/predictions") and len(call.body) > 1
        return Fault(status=413, body=b"<html>too large</html>") if big else None

    server.before = proxy
    with make_writer() as writer:
        fill(writer, tasks)

    assert stored(server, tasks) == [[VERSION]] * 5


def test_a_prediction_over_which_label_studio_fails_costs_nobody_else(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, progress: Progress
):
    def fail(call) -> Fault | None:
        at_fault = call.path.endswith("import/predictions") and tasks[3] in [
            one["task"] for one in call.body
        ]
        return Fault(status=500, body=b'{"detail": "x"}') if at_fault else None

    server.before = fail
    with make_writer() as writer:
        fill(writer, tasks)

    assert [len(one) for one in stored(server, tasks)] == [1, 1, 1, 0, 1]
    assert progress.failures["refused"].tasks == [tasks[3]]


# -- the end ----------------------------------------------------------------------------------


def test_trouble_is_raised_to_whoever_adds(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, moments: Moments
):
    server.fail(times=10**6, status=403, body=b'{"detail": "no permission"}')

    def go_on() -> None:
        with make_writer() as writer:
            writer.add(tasks[0], prediction())
            moments.now += 100
            writer.tick()
            soon(lambda: writer._trouble is not None)
            writer.add(tasks[1], prediction())

    with pytest.raises(StudioRefused, match="no permission"):
        go_on()


def test_trouble_with_the_last_batch_is_raised_on_leaving(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter
):
    server.fail(times=10**6, status=403, body=b'{"detail": "no permission"}')

    with pytest.raises(StudioRefused, match="no permission"), make_writer() as writer:
        fill(writer, tasks)


def test_a_full_queue_does_not_hold_up_whoever_leaves_after_trouble(
    server: StudioServer, project: StudioProject, make_writer: MakeWriter
):
    tasks = server.add(project.id, *[{}] * (20 * MOST_TASKS))
    server.fail(times=10**6, status=401, body=b'{"detail": "Invalid token."}')

    with pytest.raises(StudioRefused, match="Invalid token"), make_writer() as writer:
        fill(writer, tasks)

    assert server.predictions == {}


@pytest.mark.parametrize("error", [ValueError, Stopped, KeyboardInterrupt])
def test_leaving_by_an_error_writes_what_is_left(
    server: StudioServer,
    tasks: list[int],
    make_writer: MakeWriter,
    error: type[BaseException],
):
    def leave() -> None:
        with make_writer() as writer:
            fill(writer, tasks)
            raise error

    with pytest.raises(error):
        leave()

    assert stored(server, tasks) == [[VERSION]] * 5


def test_the_first_error_is_told_where_the_writer_has_trouble_too(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter
):
    server.fail(times=10**6, status=403)

    def leave() -> None:
        with make_writer() as writer:
            fill(writer, tasks)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        leave()


def test_whatever_the_pause_raises_reaches_whoever_adds(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, moments: Moments
):
    def stop(seconds: float) -> None:
        raise Stopped

    moments.on_pause = stop
    server.down()

    with pytest.raises(Stopped), make_writer() as writer:
        fill(writer, tasks)
    server.up()

    assert server.predictions == {}


def test_a_label_studio_that_stays_away_ends_it(
    server: StudioServer, tasks: list[int], progress: Progress, moments: Moments
):
    patience = Patience(total=60.0)
    studio = Studio(server.url, LEGACY_TOKEN, patience=patience, pause=moments.pause, clock=moments)
    project = StudioProject(studio, 1)
    server.down()

    with pytest.raises(StudioAway), writing.Writer(project, VERSION, progress) as writer:
        fill(writer, tasks)
    server.up()
    studio.close()


# -- replacing --------------------------------------------------------------------------------


def test_replacing_leaves_the_new_one_alone(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, progress: Progress
):
    old = [server.predict(task, VERSION, score=0.1) for task in tasks[:3]]
    server.predict(tasks[0], VERSION, score=0.1)
    theirs = server.predict(tasks[0], THEIRS)
    told: list[int] = []

    with make_writer(replacing=True, written=told.extend) as writer:
        fill(writer, tasks)

    assert sorted(stored(server, tasks)[0]) == [VERSION, THEIRS]
    assert stored(server, tasks)[1:] == [[VERSION]] * 4
    assert not set(old) & set(server.predictions)
    assert theirs in server.predictions
    assert told == tasks
    assert progress["written"] == 5


def test_replacing_leaves_a_task_alone_in_which_an_annotation_came_from_one(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, progress: Progress
):
    """A new one would be the second of its version."""
    built_on = server.predict(tasks[0], VERSION)
    server.annotate(tasks[0], built_on)

    with make_writer(replacing=True) as writer:
        fill(writer, tasks)

    assert stored(server, tasks) == [[VERSION]] * 5
    assert built_on in server.predictions
    assert (progress["annotated"], progress["written"]) == (1, 4)


def test_replacing_leaves_a_task_alone_that_somebody_has_begun(
    server: StudioServer, tasks: list[int], make_writer: MakeWriter, progress: Progress
):
    """Label Studio refuses an annotation whose prediction is gone."""
    begun_on = server.predict(tasks[0], VERSION)
    server.draft(tasks[0])
    server.draft(tasks[1])

    with make_writer(replacing=True) as writer:
        fill(writer, tasks)

    assert stored(server, tasks) == [[VERSION]] * 5
    assert begun_on in server.predictions
    assert (progress["drafted"], progress["written"]) == (1, 4)


@pytest.mark.parametrize("strict", [True, False])
def test_what_is_refused_replaces_nothing(
    server: StudioServer,
    tasks: list[int],
    make_writer: MakeWriter,
    progress: Progress,
    strict: bool,
):
    server.strict = strict
    old = [server.predict(task, VERSION) for task in tasks]

    with make_writer(replacing=True) as writer:
        writer.add(tasks[0], prediction("nobody"))
        fill(writer, tasks[1:])

    assert old[0] in server.predictions
    assert not set(old[1:]) & set(server.predictions)
    assert stored(server, tasks) == [[VERSION]] * 5
    assert progress.failed == 1


# -- once_each --------------------------------------------------------------------------------


def test_nothing_to_remove_costs_two_requests(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    for task in tasks:
        server.predict(task, VERSION)
        server.predict(task, THEIRS)
    server.calls.clear()

    once_each(project, VERSION, progress)

    assert [str(one) for one in server.calls[:2]] == [
        f"GET /api/projects/{project.id}/model-versions",
        "GET /api/tasks",
    ]
    assert not server.asked("DELETE|POST|/api/predictions")


def test_the_oldest_of_several_stays(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    oldest = [server.predict(task, VERSION) for task in tasks]
    theirs = [server.predict(task, THEIRS) for task in tasks[:2] for _ in range(2)]
    for task in tasks[1:3]:
        server.predict(task, VERSION)
        server.predict(task, VERSION)

    once_each(project, VERSION, progress)

    assert sorted(server.predictions) == sorted(oldest + theirs)
    assert progress["removed"] == 4


def test_the_one_an_annotation_came_from_stays_instead(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    numbers = [server.predict(tasks[0], VERSION) for _ in range(3)]
    server.annotate(tasks[0], numbers[1])

    once_each(project, VERSION, progress)

    assert sorted(server.predictions) == [numbers[1]]


def test_a_drafted_task_keeps_all_it_has(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    """Label Studio refuses an annotation whose prediction is gone."""
    for _ in range(2):
        server.predict(tasks[0], VERSION)
    server.draft(tasks[0])

    once_each(project, VERSION, progress)

    assert stored(server, tasks)[0] == [VERSION, VERSION]


def test_a_version_that_looks_alike_hides_no_double(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    alike = server.predict(tasks[0], f"{VERSION}-checked")
    first = server.predict(tasks[1], VERSION)
    server.predict(tasks[1], VERSION)

    once_each(project, VERSION, progress)

    assert sorted(server.predictions) == [alike, first]


def test_a_task_that_goes_meanwhile_is_no_trouble(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    for task in tasks[:2]:
        server.predict(task, VERSION)
        server.predict(task, VERSION)

    def remove(call) -> None:
        if call.path == f"/api/tasks/{tasks[0]}/":
            server.remove(tasks[0])

    server.before = remove
    once_each(project, VERSION, progress)

    assert stored(server, tasks[:2]) == [[], [VERSION]]


def test_waiting_is_said_once(
    server: StudioServer,
    tasks: list[int],
    make_writer: MakeWriter,
    caplog: pytest.LogCaptureFixture,
):
    server.fail(times=5, status=502, only="GET")

    with caplog.at_level(logging.WARNING), make_writer() as writer:
        fill(writer, tasks)

    assert len(caplog.records) == 2
