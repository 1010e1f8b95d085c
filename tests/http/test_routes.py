"""Everything but `/predict`: health, setup, versions, events, passwords, status lines."""

import threading

import pytest

from backend.api.errors import reason_phrase
from cliper_model.errors import WeightsMissing

from ..doubles.colours import ColourSegmenter, colour_source
from ..doubles.pictures import brush_config
from .conftest import Service, StartService


def test_health_tells_what_runs_and_where(service: Service):
    answer = service.client.get("/health")

    assert answer.get_json() == {
        "status": "UP",
        "degraded": [],
        "model_class": "CLIPer",
        "profile": "paintbox",
        "model": {"state": "ready", "progress": 100, "reason": None},
        "other_models": [],
        "storage": {"store": "memory", "trouble": None},
        "rows": {"memory": 0, "store": 0, "computed": 0},
        "device_lost": None,
        "queue": {"waiting": {"people": 0, "bulk": 0, "whenever": 0}, "looks": 0},
        "devices": [
            {
                "name": "device 0",
                "device": "cpu",
                "dtype": "float32",
                "fallbacks": [],
                "state": "ready",
                "progress": 100,
                "reason": None,
                "waiting": {"people": 0, "bulk": 0, "whenever": 0},
                "looks": 0,
            }
        ],
        "batch": {
            "size": 1,
            "why": "the method looks at one picture at a time",
            "halved": {},
        },
        "learning": {"on": False, "missing": ["LABEL_STUDIO_API_KEY"]},
        "device": "cpu",
        "dtype": "float32",
        "fallbacks": [],
    }
    assert service.client.get("/").get_json() == answer.get_json()


def test_health_and_setup_answer_while_the_model_loads(start_service: StartService):
    arrived, go_on = threading.Event(), threading.Event()

    def slowly(progress) -> None:
        progress(0.43)
        arrived.set()
        assert go_on.wait(60)

    service = start_service(colour_source(before_load=slowly), wait=False)
    assert arrived.wait(30)

    health = service.client.get("/health")
    before = service.setup(brush_config())
    go_on.set()
    service.services.model.join()
    after = service.setup(brush_config())

    assert health.status_code == 200
    assert health.get_json()["model"] == {"state": "loading", "progress": 43, "reason": None}
    assert before.status_code == 200
    assert before.get_json() == after.get_json()


def test_a_download_is_shown_and_holds_up_setup_with_a_sentence(start_service: StartService):
    arrived, go_on = threading.Event(), threading.Event()

    def download(name, progress) -> None:
        progress(0.07)
        arrived.set()
        assert go_on.wait(60)

    service = start_service(colour_source(fetch=download), wait=False, predict_budget=1)
    assert arrived.wait(30)

    health = service.client.get("/health").get_json()["model"]
    setup = service.setup(brush_config())
    go_on.set()
    service.services.model.join()

    assert health == {"state": "downloading", "progress": 7, "reason": None}
    assert setup.status == "503 Model weights are downloading (7 %), try again in a minute"
    assert service.setup(brush_config()).status_code == 200


def test_missing_weights_leave_the_service_up_and_say_what_to_do(start_service: StartService):
    def missing(name, progress) -> None:
        raise WeightsMissing("CLIP ViT-B/16", ["/models/clip"], "run 'cliper weights fetch fast'")

    service = start_service(colour_source(fetch=missing))

    health = service.client.get("/health")
    setup = service.setup(brush_config())
    predict = service.predict(brush_config(), {"image": "x"})

    assert health.status_code == 200
    assert health.get_json()["model"]["state"] == "failed"
    assert health.get_json()["model"]["reason"] == (
        "run 'cliper weights fetch fast': CLIP ViT-B/16 not found (looked in /models/clip)"
    )
    sentence = f"503 Model could not be loaded: {health.get_json()['model']['reason']}"
    assert setup.status == sentence
    assert predict.status == sentence


def test_setup_names_a_version_with_a_readable_beginning(service: Service):
    version = service.setup(brush_config()).get_json()["model_version"]

    assert version.startswith("paintbox-colours-")
    assert len(version) == len("paintbox-colours-") + 8


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("<View><Image", "Config is not well-formed XML: unclosed token: line 1, column 6"),
        ("", "Config is empty"),
        ("<View/>", "Config has no Image tag with a name"),
        (
            '<View><Image name="i" value="$i"/></View>',
            "Config has no BrushLabels tag bound to an Image",
        ),
        (
            '<View><Image name="i" value="$i"/><Pairwise name="p" toName="i"/></View>',
            "Pairwise cannot be pre-labelled; use BrushLabels for an Image",
        ),
        (brush_config([]), "BrushLabels 'seg' has no labels"),
        (brush_config([" "]), "A label of 'seg' has an empty value"),
        (
            brush_config(["red", "unicorn"]),
            "choose a profile with real weights (PROFILE=fast), or storybook words: the demo model "
            "does not know 'unicorn'; it knows only red, green, blue, yellow, black, white",
        ),
        (
            brush_config(["Background", "Void"]),
            "'seg': no label names something to look for; give at least one label that is not "
            "Background, Other, Void, Unlabeled or Ignore",
        ),
        (
            brush_config(["red"], 'model_background="unicorn"'),
            "choose a profile with real weights (PROFILE=fast), or storybook words: the demo model "
            "does not know 'unicorn'; it knows only red, green, blue, yellow, black, white",
        ),
        (
            brush_config(["red"], 'model_score_threshold="high"'),
            "model_score_threshold of 'seg' must be a number from 0 to 1, not 'high'",
        ),
        (
            '<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View>&b;</View>',
            "Config must not hold a DOCTYPE or entity definitions",
        ),
    ],
)
def test_a_config_we_cannot_follow_is_refused_on_the_status_line(
    service: Service, config: str, sentence: str
):
    answer = service.setup(config)

    assert answer.status == f"422 {reason_phrase(sentence)}"
    assert answer.get_json() == {"error": sentence}
    assert service.predict(config, {"image": "x"}).status == answer.status


def test_a_status_line_is_one_short_line_of_ascii():
    wild = "Größe\r\nSet-Cookie: a=b\x00 “x” … 漢字 " + "y" * 300

    phrase = reason_phrase(wild)

    assert phrase.isascii()
    assert phrase.isprintable()
    assert len(phrase) < 200
    assert phrase.startswith("Gro?e Set-Cookie: a=b ?x? ... ?? yyy")


def test_a_label_cannot_write_its_own_header_lines(service: Service):
    config = brush_config(["a&#13;&#10;X-Evil: yes"])

    answer = service.setup(config)

    assert "X-Evil" not in answer.headers
    assert "\n" not in answer.status


def test_versions_lists_what_setup_gave_out(service: Service):
    one = service.setup(brush_config(["red"])).get_json()["model_version"]
    two = service.setup(brush_config(["green"])).get_json()["model_version"]
    service.setup(brush_config(["red"]))

    assert service.client.get("/versions").get_json() == {"versions": [two, one]}


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "START_TRAINING", "SOMETHING_NEW"])
def test_every_event_is_acknowledged(service: Service, action: str):
    assert service.client.post("/webhook", json={"action": action}).status_code == 200


def test_with_a_password_everything_but_events_asks_for_it(start_service: StartService):
    service = start_service(basic_auth=("ls", "geheim-ä"))
    client = service.client

    assert client.get("/health").status_code == 401
    assert client.get("/versions").status_code == 401
    assert client.get("/nowhere").status_code == 401
    assert service.setup(brush_config()).status_code == 401
    assert service.predict(brush_config(), {"image": "x"}).status_code == 401
    refused = client.get("/health")
    assert refused.headers["WWW-Authenticate"] == 'Basic realm="cliper"'
    assert refused.get_json() == {"error": "user or password is missing or wrong"}
    assert refused.status == "401 user or password is missing or wrong"
    assert client.get("/health", auth=("ls", "wrong")).status_code == 401
    assert client.get("/health", auth=("", "geheim-ä")).status_code == 401
    assert client.get("/health", auth=("ls", "geheim-ä")).status_code == 200
    assert client.post("/webhook", json={"action": "PROJECT_UPDATED"}).status_code == 200


def test_unknown_routes_and_methods_are_answered_in_json(service: Service):
    assert "there is nothing here" in service.client.get("/nowhere").get_json()["error"]
    assert service.client.get("/predict").status_code == 405


def test_an_internal_error_shows_no_traceback(service: Service, monkeypatch: pytest.MonkeyPatch):
    def stumble() -> list[str]:
        raise RuntimeError("secret")

    monkeypatch.setattr(service.services.predictor, "versions", stumble)

    answer = service.client.get("/versions")

    assert answer.status_code == 500
    assert answer.get_json() == {"error": "internal error, see the log of the service"}


def test_setup_never_looks_at_a_picture(service: Service, segmenter: ColourSegmenter):
    service.setup(brush_config())

    assert segmenter.looks == []
