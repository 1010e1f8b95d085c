"""What a card is asked again, recorded and played: on a card if there is one, else by doubles."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cliper_model import presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.methods import cliper
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
        (given, "a"), (given[:2], "a"), (given.half(), "a"), (given, "b")
    ]  # fmt: skip

    for one, key in questions:
        assert torch.equal(asked(kept, one, key=key)[0], one * 2)
    assert record.made == 0

    for one, key in questions:
        assert torch.equal(asked(kept, one, key=key)[0], one * 2)
    assert record.made == len(questions)

    turned = given.T.contiguous().T  # lies otherwise in memory, and is the same question
    assert torch.equal(asked(kept, turned, key="a")[0], given * 2)
    assert record.made == len(questions)


def test_what_comes_in_turn_does_not_push_one_another_out() -> None:
    record = Noting()
    kept, given = Recordings(record), drawn(4, seed=0)

    for _ in range(20):
        for key in range(recordings.MOST + 2):  # more than are remembered
            assert torch.equal(asked(kept, given, key=key)[0], given * 2)
    assert record.made == 0
    assert len(kept._asked) == recordings.MOST

    for key in range(recordings.MOST):
        asked(kept, given, key=key), asked(kept, given, key=key)
    for _ in range(2 * recordings.PATIENCE):
        for key in range(2 * recordings.MOST):
            asked(kept, given, key=key)
    assert record.made == recordings.MOST == len(kept._kept)


def test_what_nobody_asks_any_more_makes_room_for_others() -> None:
    record = Noting()
    kept, given = Recordings(record), drawn(4, seed=0)
    for key in range(recordings.MOST):
        asked(kept, given, key=key), asked(kept, given, key=key)

    for _ in range(recordings.PATIENCE + 1):
        assert torch.equal(asked(kept, given, key="new")[0], given * 2)

    assert record.made == recordings.MOST + 1
    assert len(kept._kept) == 1


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


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(), RuntimeError("CUDA error: out of memory\nmore")]
)
def test_without_room_it_is_computed_and_tried_again_later(error: Exception) -> None:
    full = True

    def record(compute: Any, given: Any) -> Any:
        if full:
            raise error
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


def test_recordings_make_room_for_what_is_computed_without() -> None:
    kept, given = Recordings(Noting()), drawn(4, seed=0)
    asked(kept, given), asked(kept, given)
    assert len(kept._kept) == 1

    def large(given: Tensor) -> tuple[Tensor, ...]:
        if kept._kept:
            raise torch.OutOfMemoryError
        return (given * 3,)

    assert torch.equal(asked(kept, given, key="large", compute=large)[0], given * 3)
    assert kept.missing is None

    def too_large(given: Tensor) -> tuple[Tensor, ...]:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        asked(kept, given, key="too large", compute=too_large)


def test_whoever_wants_none_gets_no_recordings() -> None:
    record = Noting()
    kept, given = Recordings(record, wanted=False), drawn(4, seed=0)

    for _ in range(3):
        assert torch.equal(asked(kept, given)[0], given * 2)

    assert record.made == 0
    assert kept.missing is None


def test_a_torch_that_is_too_old_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu128")
    kept, given = Recordings(), drawn(4, seed=0)

    for _ in range(3):
        assert torch.equal(asked(kept, given)[0], given * 2)

    assert kept.missing is not None
    assert "torch 2.11.0+cu128 is older than 2.15" in caplog.text


def test_a_processor_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    record = Noting()
    kept, given = Recordings(record), torch.ones(4)

    for _ in range(3):
        assert torch.equal(asked(kept, given)[0], given * 2)

    assert record.made == 0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What is asked of a card, wherever this is."""
    calls = Calls()
    for name in ("current_stream", "Stream", "stream", "CUDAGraph", "Event"):
        monkeypatch.setattr(torch.cuda, name, getattr(calls, name))
    return calls


def test_a_graph_is_recorded_aside_and_played_when_its_last_answer_is_taken(calls: Calls) -> None:
    def compute(given: Tensor) -> tuple[Tensor, ...]:
        calls.made.append(f"compute with {given.tolist()}")
        return (given * 2,)

    recording = Recorder()(compute, (torch.ones(2),))

    assert isinstance(recording, CudaRecording)
    zeros = "compute with [0.0, 0.0]"
    assert calls.made == [
        "aside waits for now", "on aside", zeros, "begin thread_local", zeros, "end", "off aside",
        "now waits for aside",
    ]  # fmt: skip

    calls.made.clear()
    calls.seen = lambda: f"with {recording._given[0].tolist()}"
    for number in (5.0, 6.0):
        recording.play((torch.full((2,), number),), lambda found: calls.made.append("take"))

    assert calls.made == [
        "replay with [5.0, 5.0]", "take", "taken on now",
        "now waits for what was taken", "replay with [6.0, 6.0]", "take", "taken on now",
    ]  # fmt: skip


def test_a_graph_that_cannot_be_recorded_is_ended_and_says_why(calls: Calls) -> None:
    calls.ends = False

    def breaks(given: Tensor) -> tuple[Tensor, ...]:
        if "begin thread_local" in calls.made:
            raise RuntimeError("why")
        return (given,)

    with pytest.raises(RuntimeError, match="why"):
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


@pytest.fixture
def many_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain is many of them wherever this is; computed as torch does where it is no card."""
    if not HAS_CARD:
        monkeypatch.setattr(cliper, "kernels", lambda device, width: kernels)


@pytest.mark.usefixtures("many_kernels")
@pytest.mark.parametrize(
    "config",
    [{}, {"crop": 32}, {"refinement": "mean"}, {"refinement": "selection"}, {"only_layer": -2}],
)
def test_scores_are_those_that_are_not_recorded(config: dict[str, Any]) -> None:
    model, record = model_of(**config), Noting()
    plain = copy.copy(model)
    plain.recordings = Recordings(wanted=False)
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


def test_scores_of_few_kernels_are_not_recorded() -> None:
    for model in (model_of(refinement="none"), *([] if HAS_CARD else [model_of()])):
        record = Noting()
        model.recordings = Recordings(record)
        state = model.observe(np.zeros((60, 80, 3), np.uint8))
        words = model.read(["a", "b"])
        for _ in range(3):
            model.score(state, words)
        assert record.made == 0


@pytest.mark.usefixtures("many_kernels")
def test_other_numbers_are_recorded_for_themselves() -> None:
    model = model_of()
    model.recordings = Recordings(Noting())
    state = model.observe(np.zeros((60, 80, 3), np.uint8))
    words = model.read(["a", "b"])
    one_layer = model.with_numbers(only_layer=-2)
    strict = model.with_numbers(
        presets=lambda name: replace(presets.get(name, "tiny"), attention_floor=0.9)
    )

    for _ in range(3):
        maps = [one.score(state, words).maps for one in (model, one_layer, strict)]

    assert len(model.recordings._kept) == 3
    assert not np.allclose(maps[0], maps[1])
    assert not np.allclose(maps[0], maps[2])


@pytest.mark.usefixtures("many_kernels")
def test_a_model_that_is_warmed_up_knows_whether_it_can_be_recorded() -> None:
    def cannot(compute: Any, given: Any) -> Any:
        raise RuntimeError("this driver records nothing")

    for record, missing in ((Noting(), False), (cannot, True)):
        model = model_of()
        model.recordings = Recordings(record)
        model.warm_up()
        assert (model.recordings.missing is not None) == missing
        assert not model.recordings._kept
