"""What a project's corrections taught, for a page: which version is in use, why, label by label."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..learning.curriculum import FEWEST
from ..learning.records import Records
from ..learning.status import status
from ..lessons import BEHIND, Lesson
from ..report.learnt import Judgement, LearntVersion, versions_in

MOST_LABELS: Final = 200  # of a control
MOST_LEFT_OUT: Final = 20  # tasks that are named
MOST_WORDS: Final = 10  # of a label, that say less


def learning_of(records: Records) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The state of learning, and the versions, the newest first; as JSON of bounded size.

    Labels are told of the newest version and of the one in use only. Raises StorageAway.
    """
    told = status(records)
    versions = versions_in(told["versions"])
    in_detail = {told["version"]} | {one.digest for one in versions[:1]}
    state = {
        "version": told["version"],
        "learnt_from": told["learnt_from"],
        "pinned": told["pinned"],
        "unsettled": told["unsettled"],
        "corrected": len(told["tasks"]),
        "fewest": FEWEST,
        "left_out": {
            "count": len(told["left_out"]),
            "shown": told["left_out"][:MOST_LEFT_OUT],
        },
    }
    listed = [
        _version(one, _lessons(records, one.digest) if one.digest in in_detail else None)
        for one in versions
    ]
    return state, listed


def _lessons(records: Records, digest: str | None) -> Mapping[str, Lesson]:
    learned = None if digest is None else records.learned(digest)
    return {} if learned is None else learned.lessons


def _version(one: LearntVersion, lessons: Mapping[str, Lesson] | None) -> dict[str, Any]:
    return {
        "digest": one.digest,
        "state": one.state,
        "tasks": one.tasks,
        "when": one.when,
        "controls": [
            {
                "control": judgement.control,
                "better": judgement.better,
                "reason": judgement.reason,
                "tasks": judgement.tasks,
                "before": judgement.before,
                "after": judgement.after,
                "labels": None
                if lessons is None
                else list(_labels(judgement, lessons.get(judgement.control))),
            }
            for judgement in one.judgements
        ],
    }


def _labels(judgement: Judgement, lesson: Lesson | None) -> Iterator[dict[str, Any]]:
    """What is known of each label; those that gained least come first, then those nobody judged.

    learnt     its look was learnt
    unpainted  people were asked for it and never painted it
    threshold  how present it must be, where that was learnt
    words      those that say less than before
    """
    judged = judgement.per_label
    known = set(judged)
    if lesson is not None:
        known |= {*lesson.labels, *lesson.others, *lesson.thresholds, *lesson.words} - {BEHIND}

    def order(name: str) -> tuple[bool, float, str]:
        before, after = judged.get(name, (0.0, 0.0))
        return name not in judged, after - before, name

    for name in sorted(known, key=order)[:MOST_LABELS]:
        before, after = judged.get(name, (None, None))
        words = {} if lesson is None else lesson.words.get(name, {})
        yield {
            "label": name,
            "before": before,
            "after": after,
            "learnt": lesson is not None and name in lesson.labels,
            "unpainted": lesson is not None and name in lesson.others,
            "threshold": None if lesson is None else lesson.thresholds.get(name),
            "words": sorted(words)[:MOST_WORDS],
        }
