"""Other models for those who name one: loaded on demand, bounded, refused in one sentence."""

import pytest

from backend.errors import ConfigError
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
    pool.host(two)
    assert pool.host(one) is kept

    pool.host(three)

    assert [choice for choice, _ in pool.others] == [one, three]


def test_a_name_nobody_knows_is_an_error_of_the_config():
    def build(choice: ModelChoice) -> ModelHost:
        raise UnknownMethod("sam", ("cliper",))

    with pytest.raises(ConfigError, match="unknown method 'sam'; choose one of: cliper"):
        ModelPool(host(), build).host(ModelChoice(method="sam"))


@pytest.mark.parametrize("pool", [ModelPool(host()), ModelPool(host(), lambda c: host(), most=0)])
def test_where_no_others_are_allowed_the_sentence_names_the_setting(pool: ModelPool):
    with pytest.raises(ConfigError, match="set MAX_MODELS"):
        pool.host(ModelChoice(profile="fast"))
