"""Weights that were trained for two steps: worthless, but of the right shape."""

import pytest

from cliper_model.demo.pipeline import Plan, run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a whole training; its `weights` are complete, with figures and card."""
    out = tmp_path_factory.mktemp("trained")
    run(Plan.of(2), "all", out, progress=False)
    return out
