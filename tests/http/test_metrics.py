"""`/metrics`: parsed as Prometheus parses it, and held against the list of metrics."""

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backend.metrics import catalogue
from backend.metrics.catalogue import CATALOGUE, COUNTER, HISTOGRAM, Metric

from ..doubles.colours import ColourSegmenter, ManyColours, colour_source
from ..doubles.label_studio import LEGACY_TOKEN, FileServer, Reply
from ..doubles.pictures import brush_config, encoded, stripes
from ..doubles.studio_server import StudioServer, studio_server
from ..doubles.waiting import until
from .conftest import Service, StartService

CONFIG = brush_config(["red", "blue"])
NO_PICTURES = {  # data of a task -> the reason it is counted under
    "/data/upload/1/gone.png": "missing",
    "/data/upload/1/teapot.png": "status",
    "/data/upload/1/page.png": "not_an_image",
    "/data/upload/1/large.png": "too_large",
    "http://127.0.0.2:9/a.png": "refused",
    "/data/upload/1/guarded.png": "token",
}

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


def scraped(service: Service, **request: Any) -> str:
    answer = service.client.get("/metrics", **request)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return str(answer.get_data(as_text=True))


def samples(service: Service) -> Samples:
    """Every sample by name and labels; no two of them are alike."""
    found: Samples = {}
    for family in text_string_to_metric_families(scraped(service)):
        for one in family.samples:
            key = (one.name, frozenset(one.labels.items()))
            assert key not in found, key
            found[key] = one.value
    return found


def of(found: Samples, name: str, /, **labels: str) -> float:
    """The sum of all samples of a name with at least these labels."""
    wanted = set(labels.items())
    return sum(value for (known, has), value in found.items() if known == name and wanted <= has)


def read_ahead(service: Service) -> None:
    """The words of the config are read, so that no request does it."""
    service.setup(CONFIG)
    until(
        lambda: bool(service.services.predictor.crew.workers[0].looking._vocabularies), "words read"
    )


def with_traffic(service: Service, files: FileServer) -> Service:
    """Good pictures, bad ones of every kind, an event, and questions nobody can answer."""
    files.put("/data/upload/1/a.png", encoded(stripes("red", "blue")))
    files.put("/data/upload/1/b.png", encoded(stripes("blue", "red", width=5)))
    files.put("/data/upload/1/page.png", b"<html>sign in</html>")
    files.put("/data/upload/1/large.png", encoded(stripes("red", "blue", width=200)))
    files.files["/data/upload/1/teapot.png"] = Reply(b"", 418)
    files.files["/data/upload/1/guarded.png"] = Reply(b"{}", 401)
    read_ahead(service)
    a, b = {"image": "/data/upload/1/a.png"}, {"image": "/data/upload/1/b.png"}
    assert service.predict(CONFIG, a).status_code == 200
    assert service.predict(CONFIG, a, b).status_code == 200
    for address in NO_PICTURES:
        assert service.predict(CONFIG, {"image": address}, {}).status_code == 200
    assert service.predict("<View/>", a).status_code == 422
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "task": {"id": 1}}
    assert service.client.post("/webhook", json=event).status_code == 200
    assert service.client.get("/nowhere/secret-in-a-path").status_code == 404
    assert service.client.open("/predict", method="BREW").status_code == 405
    return service


@pytest.fixture
def busy(start_service: StartService, files: FileServer) -> Service:
    return with_traffic(start_service(max_image_megapixels=0.001), files)


def names_of(metric: Metric) -> set[str]:
    if metric.kind != HISTOGRAM:
        return {metric.name}
    return {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}


def test_every_metric_of_the_list_is_there_with_its_type_and_no_other(busy: Service) -> None:
    families = {one.name: one for one in text_string_to_metric_families(scraped(busy))}

    assert set(families) == {  # the parser takes the end off a counter's name
        metric.name.removesuffix("_total") if metric.kind == COUNTER else metric.name
        for metric in CATALOGUE
    }
    for metric in CATALOGUE:
        family = families[metric.name.removesuffix("_total" if metric.kind == COUNTER else "")]
        assert family.type == metric.kind, metric.name
        assert metric.linux or family.documentation == metric.meaning, metric.name
        assert {one.name for one in family.samples} <= names_of(metric)
        assert family.samples or metric is catalogue.JOBS_ENDED, metric.name


def test_labels_are_those_of_the_list_and_take_its_words_only(busy: Service) -> None:
    by_name = {name: metric for metric in CATALOGUE for name in names_of(metric)}
    for (name, labels), _ in samples(busy).items():
        known = by_name[name].labels
        given = {label: word for label, word in labels if label != "le"}
        assert set(given) == set(known), name
        for label, word in given.items():
            words = known[label]
            assert isinstance(words, str) or word in words, (name, label, word)


def test_nothing_that_came_with_a_request_is_in_the_text(busy: Service) -> None:
    text = scraped(busy)
    for word in ("secret-in-a-path", "upload", "a.png", "127.0.0.2", "BREW", "ANNOTATION"):
        assert word not in text


def test_requests_are_counted_by_endpoint_method_and_class_of_status(busy: Service) -> None:
    found = samples(busy)

    def requests(endpoint: str, method: str, status: str) -> float:
        return of(found, "cliper_requests_total", endpoint=endpoint, method=method, status=status)

    assert requests("predict", "POST", "2xx") == 2 + len(NO_PICTURES)
    assert requests("predict", "POST", "4xx") == 1
    assert requests("webhook", "POST", "2xx") == 1
    assert requests("setup", "POST", "2xx") == 1
    assert requests("other", "GET", "4xx") == 1
    assert requests("other", "other", "4xx") == 1  # BREW matches no route
    assert requests("metrics", "GET", "2xx") == 0  # this one is not answered yet


def test_predictions_are_timed_by_lane_and_nothing_else_has_one(busy: Service) -> None:
    found = samples(busy)

    def count(**labels: str) -> float:
        return of(found, "cliper_request_seconds_count", **labels)

    assert count(endpoint="predict", lane="people") == 2  # one of them has a config nobody follows
    assert count(endpoint="predict", lane="bulk") == 1 + len(NO_PICTURES)
    assert count(endpoint="webhook", lane="") == count(endpoint="webhook") == 1


def test_every_histogram_adds_up(busy: Service) -> None:
    found = samples(busy)
    buckets: dict[tuple[str, Labels], list[tuple[float, float]]] = defaultdict(list)
    for (name, labels), value in found.items():
        if name.endswith("_bucket"):
            rest = frozenset(pair for pair in labels if pair[0] != "le")
            bound = float(dict(labels)["le"])
            buckets[name.removesuffix("_bucket"), rest].append((bound, value))

    assert {name for name, _ in buckets} == {
        metric.name for metric in CATALOGUE if metric.kind == HISTOGRAM
    }
    for (name, labels), pairs in buckets.items():
        pairs.sort()
        assert pairs[-1] == (float("inf"), found[f"{name}_count", labels])
        assert all(one <= two for (_, one), (_, two) in itertools.pairwise(pairs))
        assert found[f"{name}_sum", labels] >= 0
        bounds = next(metric.buckets for metric in CATALOGUE if metric.name == name)
        assert tuple(bound for bound, _ in pairs[:-1]) == bounds


def test_pictures_that_cannot_be_had_are_counted_by_reason(busy: Service) -> None:
    found = samples(busy)

    reasons = {
        reason: of(found, "cliper_image_failures_total", reason=reason)
        for reason in catalogue.IMAGE_REASONS
    }

    expected = dict.fromkeys(catalogue.IMAGE_REASONS, 0.0)
    assert reasons == expected | dict.fromkeys(NO_PICTURES.values(), 1.0)


def test_a_server_that_cannot_be_reached_is_counted_as_such(
    start_service: StartService, files: FileServer
):
    service = start_service(label_studio_url="http://127.0.0.1:9")

    service.predict(CONFIG, {"image": "/data/upload/1/a.png"})

    assert of(samples(service), "cliper_image_failures_total", reason="unreachable") == 1


def test_tasks_are_counted_by_what_became_of_them(busy: Service) -> None:
    found = samples(busy)

    outcomes = {
        outcome: of(found, "cliper_tasks_total", outcome=outcome)
        for outcome in catalogue.TASK_OUTCOMES
    }

    bad = float(len(NO_PICTURES))
    expected = dict.fromkeys(catalogue.TASK_OUTCOMES, 0.0)
    assert outcomes == expected | {"predicted": 3.0, "image": bad, "data": bad}


def test_stages_looks_and_caches_say_what_was_done_and_what_was_spared(busy: Service) -> None:
    found = samples(busy)

    def stage(name: str) -> float:
        return of(found, "cliper_stage_seconds_count", stage=name)

    def cache(name: str, where: str) -> float:
        return of(found, "cliper_cache_lookups_total", cache=name, found=where)

    assert stage("fetch") == 3 + len(NO_PICTURES)
    assert stage("decode") == 2 + 2  # two good ones, one that is no picture, one too large
    assert (stage("look"), stage("score"), stage("decide"), stage("write")) == (2, 2, 2, 2)
    assert stage("read") == 1
    assert of(found, "cliper_batch_size_sum") == of(found, "cliper_batch_size_count") == 2
    assert cache("results", "memory") == 1  # the first picture, in the second request
    assert cache("results", "nowhere") == 2 + 2
    assert cache("looks", "nowhere") == 2
    assert of(found, "cliper_learning_events_received_total") == 1


def test_a_click_on_a_picture_seen_before_finds_its_look_in_memory(
    start_service: StartService, files: FileServer
):
    service = start_service(state_cache_mb=1)
    files.put("/data/upload/1/a.png", encoded(stripes("red", "blue")))
    read_ahead(service)
    service.predict(CONFIG, {"image": "/data/upload/1/a.png"})
    click = {
        "type": "keypointlabels", "to_name": "image", "from_name": "kp",
        "value": {"x": 10, "y": 50, "width": 1, "keypointlabels": ["red"]},
    }  # fmt: skip
    before = samples(service)

    answer = service.predict(CONFIG, {"image": "/data/upload/1/a.png"}, context={"result": [click]})

    found = samples(service)
    assert answer.get_json()["results"][0]["result"]
    looks = {"cache": "looks", "found": "memory"}
    more = of(found, "cliper_cache_lookups_total", **looks) - of(
        before, "cliper_cache_lookups_total", **looks
    )
    assert more == 1
    assert of(found, "cliper_tasks_total", outcome="predicted") == 2
    assert of(found, "cliper_request_seconds_count", endpoint="predict", lane="people") == 2


def test_pictures_looked_at_together_are_one_batch(start_service: StartService, files: FileServer):
    segmenter = ManyColours()
    service = start_service(colour_source(segmenter), batch=4)
    read_ahead(service)
    addresses = [f"/data/upload/1/{number}.png" for number in range(4)]
    for number, address in enumerate(addresses):
        pair = ("red", "blue") if number % 2 else ("blue", "green")
        files.put(address, encoded(stripes(*pair, width=4 + number // 2)))

    service.predict(CONFIG, *({"image": address} for address in addresses))

    found = samples(service)
    assert of(found, "cliper_batch_size_sum") == 4
    assert of(found, "cliper_batch_size_count") == 4 - sum(n - 1 for n in segmenter.together)
    assert of(found, "cliper_stage_seconds_count", stage="look") == 4


def test_what_waits_for_the_device_is_told_by_lane(
    start_service: StartService, files: FileServer, segmenter: ColourSegmenter
):
    service = start_service()
    read_ahead(service)
    files.put("/data/upload/1/a.png", encoded(stripes("red", "blue")))
    files.put("/data/upload/1/b.png", encoded(stripes("red", "blue", width=5)))
    segmenter.gate.clear()

    def ask(address: str) -> threading.Thread:
        client = service.client.application.test_client()
        asking = Service(service.services, client)
        thread = threading.Thread(target=asking.predict, args=(CONFIG, {"image": address}))
        thread.start()
        return thread

    def people() -> float:
        return of(samples(service), "cliper_queue_depth", lane="people")

    first = ask("/data/upload/1/a.png")
    assert segmenter.began.acquire(timeout=60)
    second = ask("/data/upload/1/b.png")
    until(lambda: people() == 1, "somebody waits")
    segmenter.gate.set()
    first.join()
    second.join()

    assert people() == 0


def test_the_model_is_told_by_its_state_and_once_it_is_there_by_what_it_is(
    start_service: StartService,
):
    arrived, go_on = threading.Event(), threading.Event()

    def slowly(progress: Callable[[float], None]) -> None:
        arrived.set()
        assert go_on.wait(60)

    service = start_service(colour_source(before_load=slowly), wait=False)
    assert arrived.wait(30)
    before = samples(service)
    go_on.set()
    service.services.model.join()
    after = samples(service)

    def states(found: Samples) -> dict[str, float]:
        return {
            state: of(found, "cliper_model_state", state=state) for state in catalogue.MODEL_STATES
        }

    none = dict.fromkeys(catalogue.MODEL_STATES, 0.0)
    assert states(before) == none | {"loading": 1.0}
    assert (of(before, "cliper_ready"), of(before, "cliper_model_info")) == (0, 0)
    assert states(after) == none | {"ready": 1.0}
    assert of(after, "cliper_ready") == 1
    info = {"profile": "paintbox", "method": "colours", "revision": "1", "device": "cpu"}
    assert of(after, "cliper_model_info", dtype="float32", **info) == 1


def test_the_process_is_told_by_its_memory_threads_and_age(service: Service):
    found = samples(service)

    assert of(found, "process_resident_memory_bytes") > 10_000_000
    assert of(found, "cliper_threads") >= 2
    assert of(found, "cliper_uptime_seconds") > 0
    assert of(found, "process_start_time_seconds") > 1_600_000_000


def test_a_job_that_learns_is_counted(start_service: StartService):
    with studio_server() as studio:
        service = start_service(label_studio_url=studio.url, label_studio_api_key=LEGACY_TOKEN)
        corrected(service, studio)
        until(lambda: of(samples(service), "cliper_job_attempts_total", end="done") == 1)
        until(lambda: of(samples(service), "cliper_learning_projects_unsettled") == 0)

        found = samples(service)

    assert of(found, "cliper_job_attempts_total", kind="learn", end="done") == 1
    assert of(found, "cliper_learning_tasks_settled_total") >= 1
    assert of(found, "cliper_learning_on") == 1
    assert of(found, "cliper_learning_events_pending") == 0
    assert of(found, "cliper_learning_trouble") == 0


def corrected(service: Service, studio: StudioServer) -> None:
    project = studio.project(tasks=1)
    (task,) = studio.ids(project)
    studio.annotate(task)
    event = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": project},
        "task": {"id": task},
        "annotation": {"id": 1, "task": task, "result": []},
    }
    assert service.client.post("/webhook", json=event).status_code == 200


def test_two_services_of_one_process_count_apart(start_service: StartService):
    one, two = start_service(), start_service()

    one.client.post("/webhook", json={})

    assert of(samples(one), "cliper_learning_events_received_total") == 1
    assert of(samples(two), "cliper_learning_events_received_total") == 0


def test_a_scrape_asks_the_store_nothing(service: Service, monkeypatch: pytest.MonkeyPatch):
    me, asked = threading.current_thread(), []
    store = service.services.storage

    for name in ("get", "swap", "scan", "entries", "get_blob", "counts", "blob_bytes"):
        real = getattr(store, name)

        def told(*args: Any, name: str = name, real: Any = real, **named: Any) -> Any:
            if threading.current_thread() is me:
                asked.append(name)
            return real(*args, **named)

        monkeypatch.setattr(store, name, told)

    scraped(service)
    assert asked == []

    service.client.get("/versions")  # what does ask is heard
    assert asked


def test_with_a_password_metrics_ask_for_it_unless_they_are_open(start_service: StartService):
    closed = start_service(basic_auth=("ls", "geheim"))
    opened = start_service(basic_auth=("ls", "geheim"), metrics_open=True)

    assert closed.client.get("/metrics").status_code == 401
    assert "cliper_ready 1.0" in scraped(closed, auth=("ls", "geheim"))
    assert "cliper_ready 1.0" in scraped(opened)
    assert opened.client.get("/health").status_code == 401
    found = samples(opened)
    assert of(found, "cliper_requests_total", endpoint="metrics", status="2xx") == 1
    assert of(found, "cliper_requests_total", endpoint="health", status="4xx") == 1
