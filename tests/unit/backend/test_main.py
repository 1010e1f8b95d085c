"""`cliper`: subcommands are loaded when named, errors are one sentence."""

import subprocess
import sys
import types

import pytest

import backend.__main__ as entry
from backend.errors import ServiceError
from cliper_model.errors import CliperError


def command_that(run) -> types.SimpleNamespace:
    def configure(parser) -> None:
        parser.add_argument("--n", type=int, default=1)

    return types.SimpleNamespace(HELP="Does something.", configure=configure, run=run)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    def install(run) -> None:
        monkeypatch.setattr(entry, "_load", lambda name: command_that(run))

    return install


def test_the_value_of_a_command_is_the_exit_status(install):
    install(lambda args: args.n)

    assert entry.main(["serve", "--n", "3"]) == 3


def fail(error: BaseException):
    def run(args) -> int:
        raise error

    return run


@pytest.mark.parametrize("error", [ServiceError("no port"), CliperError("no port")])
def test_an_expected_error_is_one_sentence_and_status_two(
    install, error: Exception, capsys: pytest.CaptureFixture[str]
):
    install(fail(error))

    assert entry.main(["serve"]) == 2
    assert capsys.readouterr().err == "cliper: no port\n"


def test_a_bug_is_not_dressed_up(install):
    install(fail(ZeroDivisionError()))

    with pytest.raises(ZeroDivisionError):
        entry.main(["serve"])


def test_an_interrupt_ends_with_130(install):
    install(fail(KeyboardInterrupt()))

    assert entry.main(["serve"]) == 130


@pytest.mark.parametrize("arguments", [[], ["sing"]])
def test_no_or_an_unknown_command_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as caught:
        entry.main(arguments)

    assert caught.value.code == 2
    assert "usage: cliper" in capsys.readouterr().err


def test_help_names_every_command_without_loading_torch_or_any_of_them():
    script = (
        "import sys\n"
        "from backend.__main__ import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "loaded = [m for m in sys.modules if m in ('torch', 'flask', 'numpy')"
        " or m.startswith('backend.cli')]\n"
        "assert not loaded, loaded\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    for name in entry.COMMANDS:
        assert f"  {name}" in done.stdout


def test_help_of_one_command_shows_its_own_options(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        entry.main(["serve", "--help"])

    assert caught.value.code == 0
    assert "--port PORT" in capsys.readouterr().out
