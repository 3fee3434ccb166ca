"""CONTRIBUTING.md gives a reason for each dependency that setup.cfg has."""

from __future__ import annotations

import re
from collections import defaultdict
from configparser import ConfigParser
from pathlib import Path

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "CONTRIBUTING.md").read_text("utf-8")
FOR_DEVELOPERS = {"all", "dev", "docs", "giftless", "oracles"}
_REQUIREMENT = re.compile(r"([\w-]+)(?:\[([\w,]+)\])?")


def requirements() -> dict[str, dict[str, str]]:
    """Return package to the extras of it that are required, by extra; those without an extra by an empty string."""
    config = ConfigParser()
    config.read(PROJECT / "setup.cfg", encoding="utf-8")
    lists = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {
        extra: {match[1].lower(): match[2] or "" for line in text.split("\n") if (match := _REQUIREMENT.match(line))}
        for extra, text in lists.items()
    }


def test_the_table_has_all_dependencies_of_users_with_their_extras() -> None:
    extras = requirements()
    expected: dict[str, set[str]] = defaultdict(set)
    for extra in extras.keys() - FOR_DEVELOPERS:
        for package, of_ours in extras[extra].items():
            for one in extras[of_ours] if package == "git_theta_ext" else [package]:
                expected[one].add(extra)
    _, _, section = TEXT.partition("## Dependencies\n")
    rows = re.findall(r"^\| (\S+) \| (.*?)\|", section.partition("`all` is all")[0], re.MULTILINE)
    shown = {
        package.lower(): set(re.findall(r"`(\w+)`", names)) or {""} for package, names in rows if package != "package"
    }
    assert shown == expected


def test_the_text_names_all_packages_that_only_developers_need() -> None:
    _, _, section = TEXT.partition("The extra `dev` adds")
    words = set(re.findall(r"[\w-]+", section.partition("\n\n")[0].lower()))
    packages = {name for extra in ("dev", "docs") for name in requirements()[extra]} - {"git_theta_ext"}
    assert {name.removeprefix("pytest-") for name in packages} <= words
