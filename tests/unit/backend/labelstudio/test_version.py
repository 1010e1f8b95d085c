"""The version string itself; what counts for it is tested with the vocabulary."""

import pytest

from backend.labelstudio.version import model_version


def version(facts) -> str:
    return model_version(profile="demo", method="cliper", facts=facts)


def test_it_begins_with_the_profile_and_the_method():
    assert version({"a": 1}) == "demo-cliper-015abd7f"  # the same on every machine


def test_the_order_of_keys_is_nothing_and_a_value_is_something():
    assert version({"a": 1, "b": [1, 2]}) == version({"b": [1, 2], "a": 1})
    assert version({"a": 1}) != version({"a": 2})
    assert version({"a": [1, 2]}) != version({"a": [2, 1]})


def test_what_is_not_plain_json_is_refused():
    with pytest.raises((TypeError, ValueError)):
        version({"a": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        version({"a": float("nan")})
