"""Other models for those who name one: loaded on demand, bounded, refused in one sentence."""

import threading

import pytest

from backend.errors import ConfigError, ModelLoading
from backend.model_host import ModelHost
from backend.model_pool import ModelChoice, ModelPool
from cliper_model.errors import UnknownMethod

from ...doubles.colours import colour_source


def host() -> ModelHost:
    return ModelHost(colour_source())


def test_who_names_nothing_gets_the_service_s_own():
    own = host()

    assert ModelPool(own).host(ModelChoice()) is own


def test_another_model_is_begun_once_and_kept():
    built: list[ModelChoice] = []

    def build(choice: ModelChoice) -> ModelHost:
        built.append(choice)
        return host()

    pool = ModelPool(host(), build)
    choice = ModelChoice(method="proxyclip")

    first = pool.host(choice)
    first.join()

    assert first.segmenter()
    assert pool.host(choice) is first
    assert built == [choice]


def test_of_too_many_the_one_used_longest_ago_is_let_go():
    pool = ModelPool(host(), lambda choice: host(), most=2)
    one, two, three = (ModelChoice(method=name) for name in ("a", "b", "c"))
    kept = pool.host(one)
    kept.join()
    pool.host(two).join()
    assert pool.host(one) is kept

    pool.host(three)

    assert [choice for choice, _ in pool.others] == [one, three]


def test_the_service_s_own_model_named_by_name_is_not_loaded_again():
    own = host()
    pool = ModelPool(own, most=0, name=lambda: ModelChoice(method="cliper", profile="fast"))

    assert pool.host(ModelChoice(profile="fast")) is own
    assert pool.host(ModelChoice(method="cliper")) is own


def test_a_config_that_names_more_models_than_fit_is_refused_before_any_is_loaded():
    pool = ModelPool(host(), lambda choice: host(), most=1)

    with pytest.raises(ConfigError, match="names 2 models beside the service's own"):
        pool.hosts([ModelChoice(method="a"), ModelChoice(), ModelChoice(method="b")])
    assert pool.others == ()


def test_one_that_is_being_loaded_is_not_let_go_for_another():
    go_on = threading.Event()
    slow = ModelHost(colour_source(before_load=lambda progress: go_on.wait(60) or None))
    pool = ModelPool(host(), lambda choice: slow, most=1)
    pool.host(ModelChoice(method="a"))

    with pytest.raises(ModelLoading):
        pool.host(ModelChoice(method="b"))

    go_on.set()
    slow.join()
    assert pool.host(ModelChoice(method="b"))


def test_a_name_nobody_knows_is_an_error_of_the_config():
    def build(choice: ModelChoice) -> ModelHost:
        raise UnknownMethod("sam", ("cliper",))

    with pytest.raises(ConfigError, match="unknown method 'sam'; choose one of: cliper"):
        ModelPool(host(), build).host(ModelChoice(method="sam"))


@pytest.mark.parametrize("pool", [ModelPool(host()), ModelPool(host(), lambda c: host(), most=0)])
def test_where_no_others_are_allowed_the_sentence_names_the_setting(pool: ModelPool):
    with pytest.raises(ConfigError, match="set MAX_MODELS"):
        pool.host(ModelChoice(profile="fast"))
