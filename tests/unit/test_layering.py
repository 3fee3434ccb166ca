"""Imports run downwards only, and only the top reads the environment."""

from __future__ import annotations

import ast
import configparser
from pathlib import Path

import pytest

import git_theta_ext
from git_theta_ext.registry import BUILT_IN

PROJECT = Path(git_theta_ext.__file__).parents[1]
TIERS = [
    {"cli"},
    {"git"},
    {"merging", "diff", "checkpoint", "transfer", "update", "stats"},
    {"store"},
    {"model", "protocol"},
]
TIER = {package: tier for tier, packages in enumerate(TIERS) for package in packages}
FOR_ALL = {"errors", "config", "registry", "interfaces"}
# What the modules that all may use can themselves use.
ABOVE_MODEL = {
    "errors": set(),
    "config": {"errors"},
    "interfaces": {"errors", "interfaces", "model"},
    "testing": {"errors", "model"},
}
ABOVE_MODEL |= {"registry": {"errors", "interfaces", "model"}, "__init__": {"api"}}
ABOVE_MODEL["api"] = {"errors", "git", "merging", "model", "registry", "stats", "store"}
ABOVE_MODEL["testing"] |= {"interfaces", "registry", "testing"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (PROJECT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports anywhere, also inside functions; those for types alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                # A plug-in may be several modules side by side; nothing else imports relatively.
                assert node.level == 1, f"{path}: relative import"
                assert "plugins" in path.parts, f"{path}: relative import"
                continue
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(path: Path) -> set[str]:
    """Return the packages (or modules) right below git_theta_ext that a file imports."""
    names = (name.split(".") for name in imported(path))
    return {parts[1] for parts in names if parts[0] == "git_theta_ext" and len(parts) > 1}


def home(path: Path) -> str:
    """Return the package (or module) right below git_theta_ext that a file is part of."""
    return path.relative_to(PROJECT / "git_theta_ext").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sources("git_theta_ext"), ids=lambda path: str(path.relative_to(PROJECT)))
def test_module_imports_only_what_lies_below_it(path: Path) -> None:
    own = home(path)
    if own in ABOVE_MODEL:
        assert packages(path) <= ABOVE_MODEL[own] | {"__version__"}
        return
    lower = {package for package, tier in TIER.items() if tier > TIER[own]}
    allowed = lower | {own, "errors", "__version__"}
    if own not in TIERS[-1]:
        allowed |= FOR_ALL
    assert packages(path) <= allowed


@pytest.mark.parametrize("path", sources("plugins"), ids=lambda path: str(path.relative_to(PROJECT)))
def test_plugin_imports_only_what_a_third_party_would(path: Path) -> None:
    assert packages(path) <= {"errors", "interfaces", "model"}


@pytest.mark.parametrize(
    "path",
    [path for path in sources("git_theta_ext", "plugins") if not {"cli", "git"} & set(path.parts[-2:-1])],
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_only_cli_and_git_read_the_environment(path: Path) -> None:
    names = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not names & {"os.environ", "os.getenv", "os.environb"}


@pytest.mark.parametrize(
    "path",
    sources("git_theta_ext/model", "git_theta_ext/protocol", "plugins/encodings", "plugins/merges"),
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_pure_module_touches_no_file_and_no_process(path: Path) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert not calls & {"open", "print", "input"}
    assert not {name.split(".")[0] for name in imported(path)} & {"os", "io", "sys", "subprocess", "pathlib", "shutil"}


def test_table_of_built_in_plugins_equals_the_entry_points() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    declared = {
        group.removeprefix("git_theta_ext."): dict(
            (part.strip() for part in line.split("=")) for line in lines.strip().splitlines()
        )
        for group, lines in setup["options.entry_points"].items()
        if group.startswith("git_theta_ext.")
    }
    assert declared == BUILT_IN


def test_every_package_is_declared() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    there = {".".join(path.parent.relative_to(PROJECT).parts) for path in sources("git_theta_ext", "plugins", "hooks")}
    there = {name.replace("plugins", "git_theta_plugins").replace("hooks", "git_theta_ext.hooks") for name in there}
    assert there == set(setup["options"]["packages"].split())


@pytest.mark.parametrize(
    "path", sources("git_theta_ext", "plugins", "scripts"), ids=lambda path: str(path.relative_to(PROJECT))
)
def test_module_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
