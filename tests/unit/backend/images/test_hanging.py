"""Servers that hung are remembered for a while, and not too many of them."""

from backend.images.hanging import MOST_SERVERS, REMEMBERED, HangingServers


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_server_that_hung_is_remembered_for_a_few_minutes():
    clock = Clock()
    servers = HangingServers(clock=clock)
    servers.hung("http://a")

    assert servers.lately("http://a")
    assert not servers.lately("http://b")
    clock.now = REMEMBERED
    assert not servers.lately("http://a")


def test_an_answer_is_forgiveness():
    servers = HangingServers(clock=Clock())
    servers.hung("http://a")
    servers.answered("http://a")

    assert not servers.lately("http://a")


def test_of_too_many_servers_the_oldest_are_forgotten():
    servers = HangingServers(clock=Clock())
    for number in range(MOST_SERVERS + 1):
        servers.hung(f"http://{number}")

    assert not servers.lately("http://0")
    assert servers.lately("http://1")
    assert servers.lately(f"http://{MOST_SERVERS}")
