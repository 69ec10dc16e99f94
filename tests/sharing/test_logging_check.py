from __future__ import annotations

import pytest

from bonemonai.sharing.logging_check import check_logging
from tests.conftest import ROOT
from tests.sharing.small_bundle import LOGGING


def test_the_projects_own_pass() -> None:
    for path in (ROOT / "bundles").glob("*/configs/logging.conf"):
        assert check_logging(path.read_bytes()) is None
    assert check_logging(LOGGING.encode()) is None


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("args=(sys.stdout,)", "args=(__import__('os').system('id'),)", "args="),
        ("args=(sys.stdout,)", "args=(sys.stdout,)\nkwargs={'stream': open('x', 'w')}", "kwargs="),
        ("class=StreamHandler", "class=__import__('os').system", "class="),
        ("class=StreamHandler", "class=FileHandler", "class="),
        ("class=StreamHandler", "class=handlers.HTTPHandler", "class="),
        ("[formatter_full]", "[formatter_full]\nclass=os.system", "class="),
        ("args=(sys.stdout,)", "x=(__import__('os').system('id'),)\nargs=%(x)s", "args=%(x)s"),
        ("[loggers]", "[DEFAULT]\nargs=(open('x'),)\n[loggers]", "args="),
        ("[loggers]", "keys=root", "is no logging configuration"),
    ],
)
def test_what_logging_would_evaluate_is_found(old: str, new: str, found: str) -> None:
    assert old in LOGGING
    reason = check_logging(LOGGING.replace(old, new).encode())
    assert reason is not None
    assert found in reason
    assert "\n" not in reason
