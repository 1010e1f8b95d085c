"""Work for nobody who waits."""

import pytest
import torch

from backend.device import gently


@pytest.mark.parametrize(("usual", "fewer"), [(1, 1), (2, 1), (5, 2)])
def test_it_takes_half_of_the_threads_and_gives_them_back(usual: int, fewer: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(usual)
    try:
        with gently():
            assert torch.get_num_threads() == fewer
        assert torch.get_num_threads() == usual
    finally:
        torch.set_num_threads(before)
