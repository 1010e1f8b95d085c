"""Which version is to be used: by its first letters, the one before, none, or what follows."""

import pytest

from backend.errors import BadRequest
from backend.learning.records import Active, Records, Version
from backend.learning.status import digest_of, status, use, use_what_follows, used_before
from backend.storage.base import Scope
from backend.storage.memory import MemoryStorage


@pytest.fixture
def records() -> Records:
    """Two versions, the second in use."""
    found = Records(MemoryStorage(max_blob_bytes=0), Scope("http://ls.example:80", "7"))
    for digest in ("ab1", "ab2"):
        made = Version(
            digest=digest, used=True, made_from=digest, chosen=(1, 2), when=1.0, verdicts={}
        )
        found.remember(made)
        active = Active(digest=digest, tasks=2, made_from=digest)
        assert found.activate(active, expected=found.active()[1])
        found.name_states()
    return found


def test_a_version_is_known_by_its_first_letters(records: Records):
    assert digest_of(records, "ab1") == "ab1"


@pytest.mark.parametrize("start", ["", "ab", "x"])
def test_letters_that_name_none_or_several_are_refused(records: Records, start: str):
    with pytest.raises(BadRequest, match="which are: ab2, ab1"):
        digest_of(records, start)


def test_the_one_before_is_the_last_that_was_in_use(records: Records):
    assert used_before(records) == "ab1"


@pytest.mark.parametrize(("digest", "in_use"), [("ab1", "ab1"), ("", None)])
def test_what_is_asked_for_is_used_at_once_and_stays_asked_for(
    records: Records, digest: str, in_use: str | None
):
    use(records, digest)

    told = status(records)
    assert (told["version"], told["pinned"]) == (in_use, digest)
    assert records.active()[0].pinned


def test_taking_it_back_leaves_the_rest_to_the_next_job(records: Records):
    use(records, "ab1")
    use_what_follows(records)

    told = status(records)
    assert (told["version"], told["pinned"]) == ("ab1", None)
