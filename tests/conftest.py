"""Options every suite shares."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        action="store",
        default=None,
        metavar="DIR",
        help="directory of golden tensors with an index.json (default: tests/parity/golden)",
    )
