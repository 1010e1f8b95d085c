"""`/predict`: three outcomes per task, never mixed."""

import threading

import numpy as np
import pytest

from backend.labelstudio.regions import FORMATS

from ..doubles.colours import ColourSegmenter, colour_source
from ..doubles.label_studio import FileServer, Reply
from ..doubles.pictures import brush_config, encoded, striped_png, stripes
from .conftest import Service, StartService

CONFIG = brush_config(["red", "green"])


def masks(entry, size_hw):
    return {
        region["value"]["brushlabels"][0]: FORMATS["brushlabels"].decode(region, size_hw)
        for region in entry["result"]
    }


def test_every_task_gets_the_masks_of_its_own_picture_in_order(service: Service, files: FileServer):
    files.put("/data/upload/1/a.png", striped_png("red", "blue"))
    files.put("/data/upload/1/b.png", striped_png("green", "red", "red"))

    answer = service.predict(
        CONFIG, {"image": "/data/upload/1/a.png"}, {"image": "/data/upload/1/b.png"}
    )

    assert answer.status_code == 200
    first, second = answer.get_json()["results"]
    found = masks(first, (6, 8))
    assert set(found) == {"red"}
    np.testing.assert_array_equal(found["red"][0], [True] * 4 + [False] * 4)
    found = masks(second, (6, 12))
    assert set(found) == {"red", "green"}
    np.testing.assert_array_equal(found["green"][5], [True] * 4 + [False] * 8)
    assert first["score"] == pytest.approx(0.9, abs=1e-3)


def test_nothing_found_is_an_answer_with_a_version_and_a_score(service: Service, files: FileServer):
    files.put("/data/upload/1/a.png", striped_png("blue"))

    answer = service.predict(CONFIG, {"image": "/data/upload/1/a.png"})

    version = service.setup(CONFIG).get_json()["model_version"]
    assert answer.get_json() == {
        "results": [{"result": [], "score": 1.0, "model_version": version}]
    }


def test_bad_files_are_left_out_and_succeed_once_mended(service: Service, files: FileServer):
    whole = striped_png("red", "green")
    for name in ("one", "two"):
        files.put(f"/data/upload/1/{name}.png", whole)
    files.put("/data/upload/1/truncated.png", whole[: len(whole) // 2])
    files.put("/data/upload/1/empty.png", b"")
    files.put("/data/upload/1/text.png", b"these are not the bytes you are looking for")
    names = ["one", "missing", "truncated", "empty", "text", "two"]
    data = [{"image": f"/data/upload/1/{name}.png"} for name in names]

    results = service.predict(CONFIG, *data).get_json()["results"]

    assert [len(entry.get("result", ())) for entry in results] == [2, 0, 0, 0, 0, 2]
    assert ["result" in entry for entry in results] == [True, False, False, False, False, True]
    reasons = [entry["error"] for entry in results if "error" in entry]
    assert "nothing at" in reasons[0]
    assert "truncated or damaged" in reasons[1]
    assert "empty (0 bytes)" in reasons[2]
    assert "not a picture" in reasons[3]

    for name in names:
        files.put(f"/data/upload/1/{name}.png", whole)
    again = service.predict(CONFIG, *data[1:5]).get_json()["results"]

    assert [len(entry["result"]) for entry in again] == [2, 2, 2, 2]


def test_a_picture_mended_under_the_same_address_gives_new_masks(
    service: Service, files: FileServer
):
    files.put("/data/upload/1/a.png", striped_png("red"))
    before = service.predict(CONFIG, {"image": "/data/upload/1/a.png"}).get_json()["results"]

    files.put("/data/upload/1/a.png", striped_png("green"))
    after = service.predict(CONFIG, {"image": "/data/upload/1/a.png"}).get_json()["results"]

    assert before[0]["result"][0]["value"]["brushlabels"] == ["red"]
    assert after[0]["result"][0]["value"]["brushlabels"] == ["green"]


def test_an_answer_is_computed_once_and_repeated_word_for_word(
    service: Service, files: FileServer, segmenter: ColourSegmenter
):
    files.put("/data/upload/1/a.png", striped_png("red"))
    files.put("/data/upload/2/copy.png", striped_png("red"))

    first = service.predict(CONFIG, {"image": "/data/upload/1/a.png"}).get_data()
    second = service.predict(CONFIG, {"image": "/data/upload/2/copy.png"}).get_data()

    assert first == second
    assert len(segmenter.looks) == 1


def test_two_equal_requests_at_once_look_once(
    service: Service, files: FileServer, segmenter: ColourSegmenter
):
    files.put("/data/upload/1/a.png", striped_png("red"))
    segmenter.gate.clear()
    answers = []

    def ask() -> None:
        client = service.services  # one service, two clients
        from backend.app import create_app

        body = {
            "tasks": [{"id": 1, "data": {"image": "/data/upload/1/a.png"}}],
            "label_config": CONFIG,
        }
        answers.append(create_app(client).test_client().post("/predict", json=body).get_json())

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert segmenter.began.acquire(timeout=30)
    while len(files.asked) < 2:  # both have fetched; the second joins or finds the result
        threads[0].join(0.01)
    segmenter.gate.set()
    for thread in threads:
        thread.join(30)

    assert answers[0] == answers[1]
    assert answers[0]["results"][0]["result"]
    assert len(segmenter.looks) == 1


def test_a_picture_lying_on_its_side_is_predicted_upright(service: Service, files: FileServer):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter: 8 x 6 stored is 6 x 8 displayed
    files.put("/data/upload/1/a.jpg", encoded(stripes("red", "blue"), "PNG", exif=exif))

    entry = service.predict(CONFIG, {"image": "/data/upload/1/a.jpg"}).get_json()["results"][0]

    region = entry["result"][0]
    assert (region["original_width"], region["original_height"]) == (6, 8)
    mask = masks(entry, (8, 6))["red"]
    assert mask[:4].all()
    assert not mask[4:].any()


def test_a_failing_model_leaves_one_task_out_and_no_traceback(
    service: Service, files: FileServer, segmenter: ColourSegmenter
):
    files.put("/data/upload/1/bad.png", striped_png("blue"))
    files.put("/data/upload/1/good.png", striped_png("red"))

    def stumble(pixels: np.ndarray) -> None:
        if pixels[0, 0, 2] == 255:
            raise RuntimeError("secret detail at 0xdeadbeef")

    segmenter.on_observe = stumble
    answer = service.predict(
        CONFIG, {"image": "/data/upload/1/bad.png"}, {"image": "/data/upload/1/good.png"}
    )

    bad, good = answer.get_json()["results"]
    assert bad == {"error": "the model failed on this picture (RuntimeError)"}
    assert len(good["result"]) == 1
    assert b"secret" not in answer.get_data()

    segmenter.on_observe = lambda pixels: None
    again = service.predict(CONFIG, {"image": "/data/upload/1/bad.png"}).get_json()["results"]

    assert again[0]["result"] == []


def test_out_of_memory_is_said_in_words(
    service: Service, files: FileServer, segmenter: ColourSegmenter
):
    files.put("/data/upload/1/a.png", striped_png("red"))

    def exhaust(pixels: np.ndarray) -> None:
        raise MemoryError

    segmenter.on_observe = exhaust
    entry = service.predict(CONFIG, {"image": "/data/upload/1/a.png"}).get_json()["results"][0]

    assert "result" not in entry
    assert entry["error"].startswith("not enough memory for this picture")


def test_while_the_model_loads_the_whole_request_is_turned_away(
    start_service: StartService, files: FileServer, segmenter: ColourSegmenter
):
    arrived, go_on = threading.Event(), threading.Event()

    def slowly(progress) -> None:
        progress(0.43)
        arrived.set()
        assert go_on.wait(60)

    service = start_service(colour_source(segmenter, before_load=slowly), wait=False)
    assert arrived.wait(30)
    files.put("/data/upload/1/a.png", striped_png("red"))

    early = service.predict(CONFIG, {"image": "/data/upload/1/a.png"})
    version = service.setup(CONFIG).get_json()["model_version"]
    go_on.set()
    service.services.model.join()
    late = service.predict(CONFIG, {"image": "/data/upload/1/a.png"})

    assert early.status == "503 Model is loading (43 %), try again in a minute"
    assert files.paths() == ["/data/upload/1/a.png"]  # nothing was fetched in vain
    assert late.get_json()["results"][0]["model_version"] == version


def test_when_too_many_wait_the_next_is_turned_away_and_health_still_answers(
    start_service: StartService, files: FileServer, segmenter: ColourSegmenter
):
    service = start_service(threads=3)  # one prediction may wait
    files.put("/data/upload/1/a.png", striped_png("red"))
    segmenter.gate.clear()
    waiting = threading.Thread(
        target=service.predict, args=(CONFIG, {"image": "/data/upload/1/a.png"})
    )
    waiting.start()
    assert segmenter.began.acquire(timeout=30)

    busy = service.predict(CONFIG, {"image": "/data/upload/1/a.png"})
    health = service.client.get("/health")
    segmenter.gate.set()
    waiting.join(30)

    assert busy.status == "503 Busy with 1 prediction requests, try again in a minute"
    assert health.status_code == 200
    assert service.predict(CONFIG, {"image": "/data/upload/1/a.png"}).status_code == 200


def test_a_prompt_is_answered_with_nothing_rather_than_with_a_guess(
    service: Service, files: FileServer
):
    answer = service.predict(
        CONFIG, {"image": "/data/upload/1/a.png"}, context={"result": [{"type": "keypointlabels"}]}
    )

    assert [entry["result"] for entry in answer.get_json()["results"]] == [[]]
    assert files.asked == []


def test_no_tasks_no_results(service: Service):
    assert service.predict(CONFIG).get_json() == {"results": []}


def test_a_task_without_the_config_s_key_is_left_out(service: Service):
    entry = service.predict(CONFIG, {"photo": "x.png"}).get_json()["results"][0]

    assert entry == {
        "error": "the task has no picture address under 'image'; its data holds 'photo'"
    }


def test_files_uploaded_before_the_config_are_found_under_the_unnamed_key(
    service: Service, files: FileServer
):
    files.put("/data/upload/1/a.png", striped_png("red"))

    entry = service.predict(CONFIG, {"$undefined$": "/data/upload/1/a.png"}).get_json()["results"]

    assert len(entry[0]["result"]) == 1


def test_two_controls_on_two_pictures_are_encoded_from_one_look_each(
    service: Service, files: FileServer, segmenter: ColourSegmenter
):
    config = """<View>
      <Image name="left" value="$l"/> <Image name="right" value="$r"/>
      <BrushLabels name="a" toName="left"><Label value="red"/></BrushLabels>
      <BrushLabels name="b" toName="left"><Label value="Sea" predicted_values="blue"/></BrushLabels>
      <BrushLabels name="c" toName="right"><Label value="Leaf" alias="leaf"
        predicted_values="green,yellow"/></BrushLabels></View>"""
    files.put("/data/upload/1/l.png", striped_png("red", "blue"))
    files.put("/data/upload/1/r.png", striped_png("yellow", "green", "red"))

    answer = service.predict(config, {"l": "/data/upload/1/l.png", "r": "/data/upload/1/r.png"})

    regions = answer.get_json()["results"][0]["result"]
    assert [(r["from_name"], r["to_name"], r["value"]["brushlabels"]) for r in regions] == [
        ("a", "left", ["red"]),
        ("b", "left", ["Sea"]),
        ("c", "right", ["leaf"]),
    ]
    assert len({region["id"] for region in regions}) == 3
    assert len(segmenter.looks) == 2
    leaf = FORMATS["brushlabels"].decode(regions[2], (6, 12))
    np.testing.assert_array_equal(leaf[0], [True] * 8 + [False] * 4)


def test_one_missing_picture_of_two_leaves_the_whole_task_out(service: Service, files: FileServer):
    config = """<View>
      <Image name="left" value="$l"/> <Image name="right" value="$r"/>
      <BrushLabels name="a" toName="left"><Label value="red"/></BrushLabels>
      <BrushLabels name="b" toName="right"><Label value="red"/></BrushLabels></View>"""
    files.put("/data/upload/1/l.png", striped_png("red"))

    answer = service.predict(config, {"l": "/data/upload/1/l.png", "r": "/data/upload/1/r.png"})

    assert "result" not in answer.get_json()["results"][0]


def test_the_rest_is_painted_only_where_a_label_asks_for_it(service: Service, files: FileServer):
    files.put("/data/upload/1/a.png", striped_png("red", "blue"))
    labels = '<Label value="red"/><Label value="Background" {}/>'
    config = (
        '<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="seg" toName="image">{labels}</BrushLabels></View>'
    )
    data = {"image": "/data/upload/1/a.png"}

    plain = service.predict(config.format(""), data).get_json()["results"][0]
    filled = service.predict(config.format('model_fill="true"'), data).get_json()["results"][0]

    assert set(masks(plain, (6, 8))) == {"red"}
    rest = masks(filled, (6, 8))["Background"]
    np.testing.assert_array_equal(rest[0], [False] * 4 + [True] * 4)
    assert "score" not in filled["result"][1]


def test_smart_tags_are_never_filled(service: Service, files: FileServer):
    config = """<View><Image name="image" value="$image"/>
      <BrushLabels name="seg" toName="image"><Label value="red"/></BrushLabels>
      <BrushLabels name="prompt" toName="image" smart="true"><Label value="red"/></BrushLabels>
      <KeyPointLabels name="kp" toName="image" smart="true"><Label value="red"/></KeyPointLabels>
      </View>"""
    files.put("/data/upload/1/a.png", striped_png("red"))

    entry = service.predict(config, {"image": "/data/upload/1/a.png"}).get_json()["results"][0]

    assert [region["from_name"] for region in entry["result"]] == ["seg"]


def test_thresholds_of_the_tag_decide(service: Service, files: FileServer):
    files.put("/data/upload/1/a.png", striped_png("red"))
    data = {"image": "/data/upload/1/a.png"}
    strict = brush_config(["red"], 'model_score_threshold="0.95"')
    lenient = brush_config(["red"], 'model_score_threshold="0.85"')

    assert service.predict(strict, data).get_json()["results"][0]["result"] == []
    assert len(service.predict(lenient, data).get_json()["results"][0]["result"]) == 1


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"not json", "the request body is not JSON"),
        (b"[1]", "the request body is not a JSON object"),
        (b'{"label_config": "<View/>"}', "the request has no list of tasks"),
        (b'{"tasks": [3], "label_config": ""}', "a task in the request is not an object with data"),
        (b'{"tasks": []}', "the request has no label config under 'label_config'"),
        (
            b'{"tasks": [], "label_config": "", "params": {"context": 4}}',
            "params.context is neither null nor an object",
        ),
    ],
)
def test_a_request_in_another_dialect_is_refused_in_one_sentence(
    service: Service, body: bytes, sentence: str
):
    answer = service.client.post("/predict", data=body)

    assert answer.status == f"400 {sentence}"
    assert answer.get_json() == {"error": sentence}


def test_a_moved_redirect_does_not_carry_the_token(start_service: StartService, files: FileServer):
    from ..doubles.label_studio import LEGACY_TOKEN, file_server

    service = start_service(label_studio_api_key=LEGACY_TOKEN)
    with file_server() as elsewhere:
        elsewhere.put("/a.png", striped_png("red"))
        files.files["/data/upload/1/a.png"] = Reply(
            status=302, headers={"Location": f"{elsewhere.url}/a.png"}
        )

        entry = service.predict(CONFIG, {"image": "/data/upload/1/a.png"}).get_json()["results"][0]

        assert "private or reserved address" in entry["error"]
        assert elsewhere.asked == []
    assert files.asked == [("/data/upload/1/a.png", f"Token {LEGACY_TOKEN}")]
