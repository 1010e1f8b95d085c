"""What a card is asked again, recorded and played: on a card if there is one, else by doubles."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cliper_model import presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.segmenter import Identity
from cliper_model.stages import kernels, recordings, refine
from cliper_model.stages.recordings import CudaRecording, Recorder, Recordings
from tests.doubles.recordings import Again, Calls, NothingWaits, doubled

HAS_CARD = torch.cuda.is_available()
DEVICE = "cuda" if HAS_CARD else "cpu"


class Noting:
    """Makes recordings, and counts them."""

    def __init__(self) -> None:
        self.made = 0
        self._record: Any = Recorder() if HAS_CARD else Again

    def __call__(self, compute: Any, given: Any) -> Any:
        self.made += 1
        return self._record(compute, given)


@pytest.fixture(autouse=True)
def as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    if not HAS_CARD:
        monkeypatch.setattr(Recordings, "_is_for", lambda self, given: True)


def drawn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE)


def asked(
    of: Recordings, *given: Tensor, key: Any = "", compute: Any = doubled
) -> tuple[Tensor, ...]:
    return of.run(compute, given, key=key, take=lambda found: tuple(one.clone() for one in found))


def test_the_second_question_is_recorded_and_those_after_it_are_played() -> None:
    record = Noting()
    kept, computed = Recordings(record), 0

    def compute(*given: Tensor) -> tuple[Tensor, ...]:
        nonlocal computed
        computed += 1
        return doubled(*given)

    counts = []
    for seed in range(5):
        one, other = drawn(3, 4, seed=seed), drawn(5, seed=10 + seed)
        found = asked(kept, one, other, compute=compute)
        counts.append(record.made)
        assert torch.equal(found[0], one * 2)
        assert torch.equal(found[1], other + 1)

    assert counts == [0, 1, 1, 1, 1]
    assert kept.missing is None
    if HAS_CARD:
        assert computed == 4  # twice as it is, to warm up, and while it was recorded


def test_other_shapes_formats_and_keys_are_other_questions() -> None:
    record = Noting()
    kept = Recordings(record)
    given = drawn(3, 4, seed=0)
    questions: list[tuple[Tensor, str]] = [
        (given, "a"), (given[:2], "a"), (given.half(), "a"), (given.T.contiguous().T, "a"),
        (given, "b"),
    ]  # fmt: skip

    for one, key in questions:
        assert torch.equal(asked(kept, one, key=key)[0], one * 2)
    assert record.made == 0

    for one, key in questions:
        assert torch.equal(asked(kept, one, key=key)[0], one * 2)
    assert record.made == len(questions)


def test_only_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "MOST", 2)
    monkeypatch.setattr(recordings, "REMEMBERED", 3)
    record = Noting()
    kept, given = Recordings(record), drawn(4, seed=0)

    for key in "aabbaccbb":  # "b" was used the longest ago when "c" came: it is new again
        asked(kept, given, key=key)
    assert record.made == 4
    asked(kept, given, key="c")
    assert record.made == 4

    for key in "defgd":  # more than are remembered
        asked(kept, given, key=key)
    assert record.made == 4
    assert len(kept._asked) == 3


def test_what_holds_numbers_of_its_recording_is_found_out_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck:
        def __init__(self, compute: Any, given: Any) -> None:
            self._found = tuple(torch.zeros_like(one) for one in compute(*given))

        def play(self, given: Any, take: Callable[[Any], Any]) -> Any:
            return take(self._found)

    kept, given = Recordings(Stuck), drawn(4, seed=0)
    for _ in range(3):
        assert torch.equal(asked(kept, given)[0], given * 2)

    assert kept.missing is not None
    assert kept.missing.endswith("(a recording found something else)")
    assert kept.missing in caplog.text


def test_what_cannot_be_recorded_is_computed_and_told(caplog: pytest.LogCaptureFixture) -> None:
    def waits(given: Tensor) -> tuple[Tensor, ...]:
        return (given * float(given.sum()),)

    kept = Recordings(Noting())
    for seed in range(3):
        given = drawn(4, seed=seed)
        assert torch.equal(asked(kept, given, compute=waits)[0], given * float(given.sum()))

    assert kept.missing is not None
    assert kept.missing.startswith("scores are started kernel by kernel, which is slower (")
    assert kept.missing in caplog.text


def test_numbers_that_are_none_are_equal_where_they_should_be() -> None:
    def some(given: Tensor) -> tuple[Tensor, ...]:
        return (given.log(),)

    kept, given = Recordings(Noting()), torch.tensor([-1.0, 2.0], device=DEVICE)
    for _ in range(3):
        (found,) = asked(kept, given, compute=some)
        assert found[0].isnan()
        assert float(found[1]) == pytest.approx(np.log(2))

    assert kept.missing is None


def test_without_room_it_is_computed_and_tried_again_later() -> None:
    full = True

    def record(compute: Any, given: Any) -> Any:
        if full:
            raise torch.OutOfMemoryError
        return Noting()(compute, given)

    kept, given = Recordings(record), drawn(4, seed=0)
    for _ in range(2):
        assert torch.equal(asked(kept, given)[0], given * 2)
    assert not kept._kept

    full = False
    for _ in range(2):
        assert torch.equal(asked(kept, given)[0], given * 2)
    assert len(kept._kept) == 1
    assert kept.missing is None


def test_whoever_says_so_gets_no_recordings(caplog: pytest.LogCaptureFixture) -> None:
    record = Noting()
    kept, given = Recordings(record), drawn(4, seed=0)

    kept.leave("CUDA_GRAPHS says so")

    for _ in range(3):
        assert torch.equal(asked(kept, given)[0], given * 2)
    assert record.made == 0
    assert "(CUDA_GRAPHS says so)" in caplog.text


def test_a_processor_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    record = Noting()
    kept, given = Recordings(record), torch.ones(4)

    for _ in range(3):
        assert torch.equal(asked(kept, given)[0], given * 2)

    assert record.made == 0


def test_a_graph_is_recorded_aside_and_played_when_its_last_answer_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = Calls()
    for name in ("current_stream", "Stream", "stream", "CUDAGraph", "Event"):
        monkeypatch.setattr(torch.cuda, name, getattr(calls, name))
    recorder = Recorder()
    recording = recorder(doubled, (torch.ones(3),))

    assert calls.made == [
        "aside waits for now", "on aside", "begin thread_local", "end", "off aside",
        "now waits for aside",
    ]  # fmt: skip
    assert isinstance(recording, CudaRecording)
    assert torch.equal(recording._given[0], torch.zeros(3))
    calls.made.clear()

    for _ in range(2):
        recording.play((torch.full((3,), 5.0),), lambda found: calls.made.append("take"))

    assert torch.equal(recording._given[0], torch.full((3,), 5.0))
    first = ["replay", "take", "taken on now"]
    assert calls.made == [*first, "now waits for what was taken", *first]


def test_a_graph_that_cannot_be_recorded_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    for name in ("current_stream", "Stream", "stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, getattr(calls, name))

    def breaks(given: Tensor) -> tuple[Tensor, ...]:
        if "begin thread_local" in calls.made:
            raise RuntimeError("no")
        return (given,)

    with pytest.raises(RuntimeError, match="no"):
        Recorder()(breaks, (torch.ones(3),))

    assert calls.made[-1] == "end"


def model_of(**config: Any) -> Cliper:
    eyes, diffusion = tiny_clip(), tiny_diffusion()
    for network in (eyes._model, diffusion._vae, diffusion._unet):
        network.to(DEVICE)
    return Cliper(
        eyes,
        diffusion.settle(),
        CliperConfig(short_side=64, **config),
        presets=lambda name: presets.get(name, "tiny"),
        identity=Identity(method="cliper", revision=1, profile="tiny"),
    )


@pytest.mark.parametrize("config", [{}, {"refinement": "none"}, {"crop": 32}])
def test_scores_are_those_that_are_not_recorded(config: dict[str, Any]) -> None:
    model, record = model_of(**config), Noting()
    plain = model.with_numbers()
    plain.recordings = Recordings()
    plain.recordings.leave("plain")
    model.recordings = Recordings(record)
    drawing = np.random.default_rng(0)
    states = [
        model.observe(drawing.integers(0, 256, (60, 80, 3), dtype=np.uint8)) for _ in range(3)
    ]
    words = [model.read(["a", "b", "c"]), model.read(["d", "e", "f"])]

    for state in states:
        for some in words:
            found, wanted = model.score(state, some), plain.score(state, some)
            np.testing.assert_allclose(found.maps, wanted.maps, rtol=1e-6)
            np.testing.assert_allclose(found.strength, wanted.strength, rtol=1e-6)
            assert found.agreement == wanted.agreement
            if wanted.coarse is not None:
                np.testing.assert_allclose(found.coarse, wanted.coarse, rtol=1e-6)

    assert model.recordings.missing is None
    assert record.made == 1


def test_nothing_waits_between_the_kernels_of_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Any] = []
    monkeypatch.setattr(kernels, "_run", lambda one, *given, **told: launched.append(one))
    monkeypatch.setattr(refine, "kernels", lambda device, width=0: kernels)
    maps, queries, keys = drawn(64, 3, seed=0), drawn(2, 64, 16, seed=1), drawn(2, 64, 16, seed=2)
    known = refine.Levels(drawn(2, 64, seed=3), drawn(2, 64, seed=4))

    with NothingWaits():
        refine.chain(maps, queries, keys, floor=0.5, known=known)

    assert len(launched) == 4


def test_other_numbers_are_recorded_for_themselves() -> None:
    model = model_of(refinement="none")
    model.recordings = Recordings(Noting())
    state = model.observe(np.zeros((60, 80, 3), np.uint8))
    words, others = model.read(["a", "b"]), model.read(["a", "b"], preset="whole-scene")
    one_layer = model.with_numbers(only_layer=-2)

    for _ in range(2):
        first, second = model.score(state, words), model.score(state, others)
        third = one_layer.score(state, words)

    assert len(model.recordings._kept) == 3
    assert not np.allclose(first.maps, third.maps)
    assert first.maps.shape == second.maps.shape


def test_a_model_that_is_warmed_up_knows_whether_it_can_be_recorded() -> None:
    def cannot(compute: Any, given: Any) -> Any:
        raise RuntimeError("this driver records nothing")

    for record, missing in ((Noting(), False), (cannot, True)):
        model = model_of()
        model.recordings = Recordings(record)
        model.warm_up()
        assert (model.recordings.missing is not None) == missing
        assert not model.recordings._kept
