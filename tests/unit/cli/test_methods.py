"""`cliper methods`."""

import json

import pytest

from backend.__main__ import main
from cliper_model import profiles


def test_every_method_is_listed_with_its_paper_parts_and_published_figures(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["methods"]) == 0

    told = capsys.readouterr().out
    for name in profiles.methods():
        card = profiles.method_card(name)
        assert f"{name}: {card.title}" in told
        assert card.paper in told
        assert card.parts in told
    assert "VOC21 61.3" in told
    assert "not measured here" in " ".join(told.split())
    assert "--features" in told


def test_the_list_is_there_for_programs_too(capsys: pytest.CaptureFixture[str]):
    assert main(["methods", "--json"]) == 0

    cards = json.loads(capsys.readouterr().out)
    assert [card["name"] for card in cards] == list(profiles.methods())
    assert next(card for card in cards if card["name"] == "proxyclip")["needs"] == [
        "clip",
        "features",
    ]
