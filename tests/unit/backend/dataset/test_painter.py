"""The model over fetched tasks: rows as the service would answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backend.dataset.fetching import DatasetFetching
from backend.dataset.painter import Asked, Painter, picture_key
from backend.dataset.places import place_of
from backend.dataset.rows import Fetched, Given, Seen
from backend.errors import ConfigError, ModelFailed
from backend.keeping import Keeping
from backend.labelstudio.tasks import PredictRequest, Task
from backend.model_pool import ModelPool
from backend.outcomes import NotPredicted, Predicted
from backend.row_shelf import KeptRows
from backend.settings import Settings
from backend.storage.memory import MemoryStorage
from backend.wiring import build, dataset_fetching, model_pool, painter

from ....doubles.colour_runs import CONFIG, at, fetching_of, folder_of
from ....doubles.colours import ColourSegmenter, ManyColours, colour_source
from ....doubles.pictures import brush_config, stripes

ASKED = Asked(config=CONFIG, extra={})


def fetched(root: Path, count: int) -> Iterator[Fetched]:
    fetching, plan = fetching_of(CONFIG)
    folder_of(root, count)
    for path in sorted(root.rglob("*.png")):
        given = Given(id=path.name, number=int(path.stem), data={"image": "x"}, where=at(path))
        yield fetching.fetched(given, plan)


def made(segmenter: ColourSegmenter | None = None, **settings: object) -> Painter:
    return painter(Settings(**settings), ASKED, source=colour_source(segmenter))  # type: ignore[arg-type]


def test_rows_are_what_the_service_answers_region_for_region(tmp_path: Path) -> None:
    tasks = list(fetched(tmp_path, 6))
    services = build(Settings(local_files_document_root=tmp_path), source=colour_source())
    services.model.start()
    services.model.join()
    asked = PredictRequest(
        tasks=tuple(
            Task(one.given.number, {"image": f"/data/local-files/?d={where.relative_to(tmp_path)}"})
            for one in tasks
            for where in [Path(json.loads(one.given.where or "")[0])]
        ),
        label_config=CONFIG,
    )

    answers = services.predictor.predict(asked)
    rows = list(made().paint(tasks))

    services.close()
    assert len(rows) == len(answers) == 6
    for row, answer in zip(rows, answers, strict=True):
        assert isinstance(answer, Predicted)
        assert json.loads(row.prediction) == json.loads(answer.to_json())


def test_pictures_of_one_size_are_looked_at_together(tmp_path: Path) -> None:
    segmenter = ManyColours()
    same = stripes("red", "green")
    tasks = [
        Fetched(
            given=Given(id=str(n), data={"image": "x"}),
            pictures=(Seen(digest=str(n), pixels=same),),
        )
        for n in range(6)
    ]

    rows = list(made(segmenter, batch=4).paint(tasks))

    assert segmenter.together == [4, 2]
    assert [row.regions for row in rows] == [2] * 6


def test_a_picture_the_model_fails_on_costs_only_its_own_row(tmp_path: Path) -> None:
    def on_observe(pixels: np.ndarray) -> None:
        if pixels.shape[1] == 3:
            raise RuntimeError("no")

    good, bad = stripes("red"), stripes("red", width=3)
    tasks = [
        Fetched(
            given=Given(id=str(n), data={"image": "x"}), pictures=(Seen(digest=str(n), pixels=one),)
        )
        for n, one in enumerate([good, bad, good])
    ]

    rows = list(made(ColourSegmenter(on_observe=on_observe)).paint(tasks))

    assert [row.kind for row in rows] == [None, "could not predict", None]
    assert "the model failed on this picture (RuntimeError)" in (rows[1].reason or "")


def test_a_device_that_is_lost_ends_the_run() -> None:
    def on_observe(pixels: np.ndarray) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    task = Fetched(
        given=Given(id="1", data={"image": "x"}),
        pictures=(Seen(digest="1", pixels=stripes("red")),),
    )
    lost = Painter(
        build_pool(ColourSegmenter(on_observe=on_observe)),
        ASKED,
        defaults={},
        brush_megapixels=25.0,
        answers=lambda device: False,
    )

    with pytest.raises(ModelFailed):
        list(lost.paint([task]))


def build_pool(segmenter: ColourSegmenter) -> ModelPool:
    shelf = KeptRows(Keeping(MemoryStorage(max_blob_bytes=0)))
    return model_pool(Settings(), source=colour_source(segmenter), shelf=shelf)


def test_a_config_with_words_the_model_cannot_read_is_refused() -> None:
    with pytest.raises(ConfigError):
        painter(
            Settings(), Asked(config=brush_config(("mauve",)), extra={}), source=colour_source()
        )


def test_a_config_says_where_a_task_has_its_picture() -> None:
    several = CONFIG.replace("$image", "$pages").replace('value="$pages"', 'valueList="$pages"')

    assert picture_key(ASKED, {}) == "image"
    assert picture_key(Asked(config=several, extra={}), {}) is None


def test_fetching_is_wired_with_the_bounds_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x" * 2001)
    fetching: DatasetFetching = dataset_fetching(Settings(max_image_mb=0.002), place_of("/"))

    error = fetching.fetched(
        Given(id="a", data={"image": "a"}, where=at(path)), fetching_of(CONFIG)[1]
    ).error

    assert error is not None
    assert error.kind == "image too large"


def test_a_task_whose_server_did_not_answer_has_no_row_and_is_counted() -> None:
    away = NotPredicted(reason="nobody answers", kind="unreachable", passing=True)
    broken = NotPredicted(reason="too short", kind="image broken")
    given = Given(id="1", data={"image": "x"})
    one = made()

    rows = list(one.paint([Fetched(given=given, error=away), Fetched(given=given, error=broken)]))

    assert [row.kind for row in rows] == ["image broken"]
    assert one.left == 1
