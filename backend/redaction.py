"""Secrets stay out of what we print: the last net under sentences that were written without them.

Every record of every library passes here before any handler sees it, tracebacks included; so do
the sentences of commands. Known secrets are taken from the environment; others are known by their
form: access tokens, passwords in addresses, signatures of signed addresses.
"""

import base64
import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"
SHORTEST = 4  # characters; hiding shorter ones would tear every sentence apart
SECRETS = (
    "API_TOKEN",
    "BASIC_AUTH_PASS",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "LABEL_STUDIO_ACCESS_TOKEN",
    "LABEL_STUDIO_API_KEY",
    "ML_SERVER_BASIC_AUTH_PASS",
    "WEBHOOK_SECRET",
)
LOGINS = (
    ("BASIC_AUTH_USER", "BASIC_AUTH_PASS"),
    ("ML_SERVER_BASIC_AUTH_USER", "ML_SERVER_BASIC_AUTH_PASS"),
)
ADDRESSES = ("HF_ENDPOINT", "LABEL_STUDIO_HOST", "LABEL_STUDIO_URL", "PRIVATE_HOSTS", "STORAGE")
FORMS = (  # pattern, what stays of it
    (re.compile(r"(/webhook/)[\w-]{16,}"), rf"\1{HIDDEN}"),
    (re.compile(r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]*"), HIDDEN),  # JSON web tokens
    (
        re.compile(
            r"(?i)(authorization['\"]?\s*[:=,]\s*['\"]?(?:basic |bearer |token )?)[\w.~+/=-]{4,}"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"([a-zA-Z][\w+.-]*://)[^\s/?#'\"<>@]*@"), rf"\1{HIDDEN}@"),
    (
        re.compile(
            r"(?i)([?&;](?:[\w-]*(?:signature|credential|token|password|secret|api_?key)"
            r"|sig|key|awsaccesskeyid)=)[^\s&#;'\"<>]+"
        ),
        rf"\1{HIDDEN}",
    ),
)


class Redaction:
    """What must not be printed, and the rewriting of texts that hold it."""

    def __init__(self, secrets: Iterator[str] | tuple[str, ...] = ()) -> None:
        found = {secret for secret in secrets if len(secret) >= SHORTEST}
        longest_first = sorted(found, key=lambda secret: (-len(secret), secret))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if found else None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Redaction":
        """Of the values of this environment, in every spelling they may be printed in."""
        return cls(_spelled(environ))

    def hide(self, text: str) -> str:
        """The same text with `***` in place of secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for form, kept in FORMS:
            text = form.sub(kept, text)
        return text


def _spelled(environ: Mapping[str, str]) -> Iterator[str]:
    values = [environ.get(name, "").strip() for name in SECRETS]
    for name in ADDRESSES:
        before, at, _ = environ.get(name, "").rpartition("@")
        values.append(before.rpartition("://")[2].partition(":")[2] if at else "")
    for value in values:
        yield from (value, unquote(value), quote(value), quote(value, safe=""))
        yield repr(value)[1:-1]  # as within a sentence
    for user, password in LOGINS:
        pair = f"{environ.get(user, '').strip()}:{environ.get(password, '').strip()}"
        yield base64.b64encode(pair.encode()).decode() if len(pair) > SHORTEST else ""


@contextlib.contextmanager
def hidden_in_logs(redaction: Redaction) -> Iterator[None]:
    """Meanwhile no record of this process, or of one forked from it, holds a secret."""
    before = logging.getLogRecordFactory()

    def without_secrets(*args: Any, **more: Any) -> logging.LogRecord:
        return _rewritten(before(*args, **more), redaction)

    logging.setLogRecordFactory(without_secrets)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


def _rewritten(record: logging.LogRecord, redaction: Redaction) -> logging.LogRecord:
    """The record as it is, unless there is something to hide."""
    try:
        message = record.getMessage()
    except Exception:  # whoever wrote it counted its arguments wrong: that is logged elsewhere
        message = f"{record.msg} {record.args}"
        record.msg, record.args = redaction.hide(message), None
    else:
        hidden = redaction.hide(message)
        if hidden != message:
            record.msg, record.args = hidden, None
    if record.exc_info and record.exc_info[0] is not None:
        text = logging.Formatter().formatException(record.exc_info)
        hidden = redaction.hide(text)
        if hidden != text:
            record.exc_info, record.exc_text = None, hidden
    return record
