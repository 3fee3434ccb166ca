from __future__ import annotations

from types import SimpleNamespace

from git_theta_ext.config import Config
from git_theta_ext.operations.merge.rules import warn_of_former_settings


def test_a_setting_with_a_former_name_is_reported_with_its_name_now() -> None:
    warnings: list[tuple[str, str]] = []
    reporter = SimpleNamespace(warning=lambda *words: warnings.append(words))
    for data in (b"theta.merge.options\nlambda=1\0", b"theta.merge.with\nlambda=1\0"):
        warn_of_former_settings(Config.parse(data), reporter)
    ((message, hint),) = warnings
    assert "theta.merge.with is now called theta.merge.options" in message
    assert "git config theta.merge.options" in hint
