"""How a finding looks, to people and to programs."""

from backend.doctor.findings import brief, fail, ok, skip


def test_a_line_says_state_check_finding_and_remedy():
    finding = fail("connection refused", "start it", url="http://here").of("service")

    assert str(finding) == "fail  service: connection refused -> start it"
    assert finding.to_json() == {
        "check": "service",
        "state": "fail",
        "finding": "connection refused",
        "mend": "start it",
        "url": "http://here",
    }


def test_lines_stand_below_and_a_remedy_may_be_missing():
    assert str(ok("fine", lines=("one", "two")).of("x")) == "ok    x: fine\n      one\n      two"
    assert str(skip("see y").of("x")) == "skip  x: see y"
    assert skip("see y").to_json()["mend"] is None


def test_what_others_said_is_one_line_and_not_too_long():
    assert brief("a\n  b\tc") == "a b c"
    assert len(brief("x" * 5000)) == 300
