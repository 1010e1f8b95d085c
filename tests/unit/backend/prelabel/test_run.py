"""A run over a project, its troubles, and its second beginning."""

import logging
import threading
from collections.abc import Callable

import pytest

from backend.errors import ConfigError, ProjectChanged, StudioAway, StudioRefused
from backend.jobs.base import Stopped
from backend.labelstudio.tasks import Task
from backend.prelabel.progress import Progress
from backend.prelabel.run import AGAIN, Hooks, prelabel
from backend.prelabel.wanted import Wanted
from backend.studio.project import StudioProject

from ....doubles.moments import Moments
from ....doubles.studio_server import CONFIG, Fault, StudioServer
from .conftest import OLDER, THEIRS, VERSION, Scripted, broken, found, unreachable

Run = Callable[..., Progress]


@pytest.fixture(autouse=True)
def nothing_is_left(predictor: Scripted):
    yield
    assert not [one for one in threading.enumerate() if one.name == "writer"]
    assert predictor.open == 0


@pytest.fixture
def tasks(server: StudioServer, project: StudioProject) -> list[int]:
    return server.ids(project.id)


@pytest.fixture
def run(project: StudioProject, predictor: Scripted, moments: Moments) -> Run:
    """Call it with fields of Wanted, and with hooks."""

    def go(
        told: Callable[[Progress], None] = lambda progress: None,
        pause: Callable[[], None] = lambda: None,
        noted: Callable[[], set[int]] = set,
        note: Callable[[object], None] = lambda numbers: None,
        **wish: object,
    ) -> Progress:
        progress = Progress()
        hooks = Hooks(told=told, pause=pause, wait=moments.pause, noted=noted, note=note)
        prelabel(project, predictor, Wanted(project=project.id, **wish), progress, hooks)
        return progress

    return go


def stored(server: StudioServer, tasks: list[int]) -> list[list[str]]:
    return [server.versions(task) for task in tasks]


def test_every_task_gets_one_prediction(server: StudioServer, tasks: list[int], run: Run):
    progress = run()

    assert stored(server, tasks) == [[VERSION]] * 5
    assert (progress["predicted"], progress["written"], progress["regions"]) == (5, 5, 5)
    assert (progress.phase, progress.left, progress.version) == ("done", 0, VERSION)
    region = next(iter(server.predictions.values()))["result"][0]
    assert region["note"] == str(tasks[0])


def test_a_second_run_has_nothing_to_do(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted
):
    run()
    predictor.asked.clear()

    progress = run()

    assert predictor.asked == []
    assert (progress["already"], progress["written"], progress.left) == (5, 0, 0)


def test_a_project_without_tasks_is_done_at_once(
    server: StudioServer, studio, predictor: Scripted, hooks: Hooks, progress: Progress
):
    empty = StudioProject(studio, server.project())

    prelabel(empty, predictor, Wanted(project=empty.id), progress, hooks)

    assert progress.to_json()["phase"] == "done"


def test_a_project_without_a_config_is_said(
    server: StudioServer, studio, predictor: Scripted, hooks: Hooks, progress: Progress
):
    empty = StudioProject(studio, server.project(label_config=" "))

    with pytest.raises(ConfigError, match="has no label config yet"):
        prelabel(empty, predictor, Wanted(project=empty.id), progress, hooks)


def test_the_connection_s_parameters_are_used_and_a_difference_is_said(
    server: StudioServer,
    project: StudioProject,
    run: Run,
    predictor: Scripted,
    caplog: pytest.LogCaptureFixture,
):
    server.projects[project.id].connections = [
        {"id": 9, "extra_params": "later"},
        {"id": 8, "extra_params": "first", "model_version": OLDER},
    ]

    run()

    assert predictor.extras == ["first"]
    assert predictor.projects == [str(project.id)]  # whose corrections have a say
    assert f"model says {OLDER}, this run will write {VERSION}" in caplog.text


def test_what_other_models_of_the_project_are_told_is_not_for_us(
    server: StudioServer, project: StudioProject, run: Run, predictor: Scripted
):
    theirs = {"id": 7, "extra_params": "theirs", "model_version": THEIRS}
    new = {"id": 8, "extra_params": "new"}
    ours = {"id": 9, "extra_params": "ours", "model_version": VERSION}
    for there in ([theirs], [theirs, new], [theirs, new, ours]):
        server.projects[project.id].connections = there
        run(dry_run=True)

    assert predictor.extras == [None, "new", "ours"]


def test_a_project_that_predicts_on_listing_is_said(
    server: StudioServer, project: StudioProject, run: Run, caplog: pytest.LogCaptureFixture
):
    server.projects[project.id].evaluates = True

    run()

    assert "evaluate_predictions_automatically" in caplog.text


def test_a_version_that_looks_alike_is_said(
    server: StudioServer, tasks: list[int], run: Run, caplog: pytest.LogCaptureFixture
):
    server.predict(tasks[0], f"{VERSION}-checked")

    run()

    assert f"has predictions of {VERSION}-checked" in caplog.text


def test_a_project_of_the_same_number_elsewhere_is_not_meant(
    server: StudioServer, project: StudioProject, tasks: list[int], run: Run
):
    with pytest.raises(ConfigError, match="is not the one that asked"):
        run(key=f"{project.id}.1")

    assert run(key=project.facts().key)["written"] == 5


def test_a_dry_run_counts_and_writes_nothing(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted
):
    server.annotate(tasks[0])
    server.draft(tasks[1])
    server.predict(tasks[2], VERSION)

    progress = run(dry_run=True)

    assert predictor.asked == []
    assert not server.asked("POST|DELETE")
    assert (progress["annotated"], progress["drafted"], progress["already"]) == (1, 1, 1)
    assert (progress["total"], progress.left) == (5, 2)


# -- failures ---------------------------------------------------------------------------------


def test_a_broken_picture_costs_nobody_else(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted, moments: Moments
):
    predictor.script = lambda task: broken(task) if task.id == tasks[2] else found(task)

    progress = run()

    assert [len(one) for one in stored(server, tasks)] == [1, 1, 0, 1, 1]
    assert progress.failures["ImageBroken"].tasks == [tasks[2]]
    assert progress.left == 0
    assert moments.paused == [], "nobody waits for what cannot succeed"


def test_a_prediction_label_studio_refuses_costs_nobody_else(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted
):
    predictor.script = lambda task: found(task, "nobody" if task.id == tasks[2] else "seg")

    progress = run()

    assert [len(one) for one in stored(server, tasks)] == [1, 1, 0, 1, 1]
    assert progress.failures["refused"].tasks == [tasks[2]]


@pytest.mark.parametrize("redo", [False, True])
@pytest.mark.parametrize("failures", [1, 2])
def test_who_does_not_answer_is_asked_again_later(
    server: StudioServer,
    tasks: list[int],
    run: Run,
    predictor: Scripted,
    moments: Moments,
    failures: int,
    redo: bool,
):
    old = [server.predict(task, VERSION) for task in tasks] if redo else []
    left = {tasks[1]: failures, tasks[3]: 1}

    def script(task: Task):
        if left.get(task.id, 0) == 0:
            return found(task)
        left[task.id] -= 1
        return unreachable(task)

    predictor.script = script
    progress = run(redo=redo)

    assert moments.paused == list(AGAIN[:failures])
    assert stored(server, tasks) == [[VERSION]] * 5
    assert not set(old) & set(server.predictions)
    assert (progress["written"], progress.failed, progress.left) == (5, 0, 0)


def test_who_never_answers_has_failed_in_the_end(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted, moments: Moments
):
    predictor.script = lambda task: unreachable(task) if task.id == tasks[0] else found(task)

    progress = run()

    assert predictor.asked.count(tasks[0]) == 1 + len(AGAIN)
    assert progress.failures["Unreachable"].count == 1
    assert progress.left == 0


def test_what_becomes_of_a_task_before_it_is_tried_again_is_counted(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted, moments: Moments
):
    predictor.script = unreachable

    def meanwhile(seconds: float) -> None:
        if len(moments.paused) == 1:
            server.remove(tasks[0])
            server.predict(tasks[1], VERSION)
            predictor.script = found

    moments.on_pause = meanwhile
    progress = run()

    assert (progress["gone"], progress["already"], progress["written"]) == (1, 1, 3)
    assert progress.left == 0


def test_what_others_did_before_its_turn_came_is_not_left_to_do(
    server: StudioServer, project: StudioProject, run: Run
):
    tasks = [*server.ids(project.id), *server.add(project.id, *[{}] * 75)]
    counted: list[int] = []

    def told(progress: Progress) -> None:
        if not counted:
            server.annotate(tasks[-1])
            server.predict(tasks[-2], VERSION)
            server.remove(tasks[-3])
        counted.append(progress["total"])

    progress = run(told=told)

    assert (counted[0], progress["written"], progress["meanwhile"]) == (80, 77, 3)
    assert progress.left == 0


def test_an_error_that_is_everybody_s_ends_the_run_and_keeps_what_is_done(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted
):
    def script(task: Task):
        if task.id == tasks[3]:
            raise ConfigError("nobody can follow this")
        return found(task)

    predictor.script = script
    with pytest.raises(ConfigError):
        run()

    assert [len(one) for one in stored(server, tasks)] == [1, 1, 1, 0, 0]


def test_label_studio_may_restart_in_the_middle(
    server: StudioServer,
    tasks: list[int],
    run: Run,
    moments: Moments,
    caplog: pytest.LogCaptureFixture,
):
    def gone_at_the_third(progress: Progress) -> None:
        if progress["predicted"] == 3:
            server.down()

    def back(seconds: float) -> None:
        if sum(moments.paused) > 120:
            server.up()
            moments.on_pause = lambda seconds: None

    moments.on_pause = back
    with caplog.at_level(logging.WARNING):
        progress = run(told=gone_at_the_third)

    assert stored(server, tasks) == [[VERSION]] * 5
    assert progress["written"] == 5
    assert [one.message.split()[-1] for one in caplog.records] == ["it", "again"]


def test_a_label_studio_that_stays_away_ends_the_run(
    server: StudioServer, tasks: list[int], run: Run
):
    def gone(progress: Progress) -> None:
        if progress["predicted"] == 2:
            server.down()

    with pytest.raises(StudioAway):
        run(told=gone)
    server.up()


def test_a_token_that_is_taken_back_ends_the_run(server: StudioServer, tasks: list[int], run: Run):
    def taken_back(progress: Progress) -> None:
        if progress["predicted"] == 2:
            server.legacy_token = "another"

    with pytest.raises(StudioRefused, match="Invalid token"):
        run(told=taken_back)


@pytest.mark.parametrize("while_trying_again", [False, True])
def test_another_label_config_ends_the_run(
    server: StudioServer,
    project: StudioProject,
    tasks: list[int],
    run: Run,
    predictor: Scripted,
    moments: Moments,
    while_trying_again: bool,
):
    server.add(project.id, *[{}] * 100)

    def change(*_: object) -> None:
        server.projects[project.id].label_config = CONFIG.replace("green", "blue")

    if while_trying_again:
        predictor.script = unreachable
        moments.on_pause = change
    with pytest.raises(ProjectChanged, match="was changed meanwhile; start again"):
        run(told=lambda progress: progress["predicted"] and change())

    written = sum(map(len, stored(server, server.ids(project.id))))
    assert written == (0 if while_trying_again else 50), "what was predicted is kept"


# -- stopping and going on --------------------------------------------------------------------


def test_stopping_anywhere_ends_cleanly_and_the_next_run_goes_on(
    server: StudioServer, project: StudioProject, predictor: Scripted, run: Run
):
    """Every hook raises once at every place it is called from."""
    tasks = server.ids(project.id)
    predictor.script = lambda task: (
        unreachable(task)
        if task.id == tasks[1] and predictor.asked.count(tasks[1]) % 2
        else found(task)
    )
    for which in ("pause", "told"):
        for patience in range(100):
            server.predictions.clear()
            left = [patience]

            def hook(*_: object, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] < 0:
                    raise Stopped

            try:
                run(**{which: hook})
            except Stopped:
                run()
                assert stored(server, tasks) == [[VERSION]] * 5
            else:
                break
        assert patience > 3


def test_stopping_while_waiting_ends_cleanly(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted, moments: Moments
):
    def stop(seconds: float) -> None:
        raise Stopped

    predictor.script = lambda task: unreachable(task) if task.id == tasks[0] else found(task)
    moments.on_pause = stop

    with pytest.raises(Stopped):
        run()

    assert [len(one) for one in stored(server, tasks)] == [0, 1, 1, 1, 1]


def test_stopping_while_label_studio_is_away_does_not_wait_for_it(
    server: StudioServer, tasks: list[int], run: Run, moments: Moments
):
    def stop(seconds: float) -> None:
        raise Stopped

    def gone(progress: Progress) -> None:
        if progress["predicted"] == 2:
            moments.on_pause = stop
            server.down()

    with pytest.raises(Stopped):
        run(told=gone)
    server.up()


# -- replacing and redoing --------------------------------------------------------------------


def test_replacing_removes_our_older_versions_where_the_new_one_is(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted
):
    for task in tasks:
        server.predict(task, OLDER)
        server.predict(task, THEIRS)
    kept = server.predict(tasks[1], OLDER)
    server.annotate(tasks[1], kept)
    predictor.script = lambda task: broken(task) if task.id == tasks[0] else found(task)

    progress = run(replace=True, include_annotated=True)

    assert stored(server, tasks) == [
        [OLDER, THEIRS],
        [THEIRS, OLDER, VERSION],
        *[[THEIRS, VERSION]] * 3,
    ]
    assert progress["removed"] == 4


def test_redoing_replaces_each_once(server: StudioServer, tasks: list[int], run: Run):
    old = [server.predict(task, VERSION) for task in tasks]
    noted: list[int] = []

    progress = run(redo=True, note=noted.extend)

    assert stored(server, tasks) == [[VERSION]] * 5
    assert not set(old) & set(server.predictions)
    assert noted == tasks
    assert progress["written"] == 5


def test_a_redo_that_was_interrupted_goes_on_where_it_was(
    server: StudioServer, project: StudioProject, run: Run, predictor: Scripted
):
    tasks = [*server.ids(project.id), *server.add(project.id, *[{}] * 75)]
    old = [server.predict(task, VERSION) for task in tasks]
    noted: set[int] = set()
    left = [60]

    def pause() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stopped

    with pytest.raises(Stopped):
        run(redo=True, note=noted.update, pause=pause)
    assert noted == set(tasks[:60])
    predictor.asked.clear()
    progress = run(redo=True, noted=lambda: set(noted), note=noted.update)

    assert predictor.asked == tasks[60:]
    assert stored(server, tasks) == [[VERSION]] * 80
    assert not set(old) & set(server.predictions)
    assert (progress["already"], progress["written"], progress.left) == (60, 20, 0)


def test_a_limited_redo_that_was_interrupted_keeps_to_its_limit(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted
):
    for task in tasks:
        server.predict(task, VERSION)

    progress = run(redo=True, limit=3, noted=lambda: set(tasks[:2]))

    assert predictor.asked == tasks[2:3]
    assert (progress["already"], progress["written"], progress.left) == (2, 1, 0)


@pytest.mark.parametrize("before", [1, 3])
def test_a_limited_run_that_was_interrupted_keeps_to_its_limit(
    server: StudioServer, tasks: list[int], run: Run, predictor: Scripted, before: int
):
    left = [before]
    noted: set[int] = set()

    def pause() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stopped

    with pytest.raises(Stopped):
        run(limit=3, note=noted.update, pause=pause)
    progress = run(limit=3, noted=lambda: set(noted), note=noted.update)

    assert predictor.asked == tasks[:3]
    assert (progress["already"], progress["written"], progress.left) == (before, 3 - before, 0)


def test_what_came_twice_between_question_and_write_is_mended_in_the_end(
    server: StudioServer, tasks: list[int], run: Run
):
    """A write of a run that was killed may arrive late."""

    def late(call) -> Fault | None:
        if call.path.endswith("import/predictions") and not server.predictions:
            server.predict(tasks[0], VERSION)
        return None

    server.before = late
    progress = run()

    assert stored(server, tasks) == [[VERSION]] * 5
    assert progress["removed"] == 1
