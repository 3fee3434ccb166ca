"""Imports run downwards only, and only the top reads the environment."""

from __future__ import annotations

import ast
import configparser
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import git_theta_ext

if TYPE_CHECKING:
    from collections.abc import Callable, Container

PROJECT = Path(git_theta_ext.__file__).parents[1]
LAYERS = [
    {"cli"},
    {"api"},
    {"operations", "testing"},
    {"git", "merging", "comparison", "transfer", "update", "statistics"},
    {"checkpoint"},
    {"store"},
    {"registry"},
    {"interfaces"},
    {"coding", "webpage"},
    {"model", "protocol", "cluster", "config"},
    {"util"},
    {"errors", "settings", "version"},
    {"records"},
]
"""A module imports only its own package and those of lower layers, never a neighbour in its layer."""
PURE = (
    *(f"git_theta_ext/{package}" for package in ("coding", "model", "protocol", "webpage")),
    *(f"plugins/{group}" for group in ("encodings", "merges", "statistics")),
)


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
                # A plug-in may be several modules side by side, and containers read archives as formats do. Nothing
                # else imports relatively.
                assert node.level == 1 or path.parent.name == "containers", f"{path}: relative import"
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
    return (
        path.relative_to(PROJECT).parts[1 if path.is_relative_to(PROJECT / "git_theta_ext") else 0].removesuffix(".py")
    )


def name_of(path: Path) -> str:
    """Return a module's dotted name."""
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def longest(names: Container[str]) -> Callable[[str], str]:
    """Return a function from what an import statement names to the module that it loads, empty if none of these."""

    def module(name: str) -> str:
        while name and name not in names:
            name = name.rpartition(".")[0]
        return "" if name == "git_theta_ext" else name

    return module


def test_modules_import_only_lower_layers() -> None:
    layer = {package: number for number, packages in enumerate(LAYERS) for package in packages}
    upwards = [
        f"{home(path)}: {path.name} imports {package}"
        for path in sources("git_theta_ext")
        if home(path) != "__init__"
        for package in packages(path) - {home(path)}
        if layer[package] <= layer[home(path)]
    ]
    assert not upwards


def test_architecture_lists_the_layers_and_names_modules_that_exist() -> None:
    text = (PROJECT / "ARCHITECTURE.md").read_text()
    layer = {package: number for number, packages in enumerate(LAYERS) for package in packages}
    listed = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", text, re.MULTILINE)
    assert set(listed) == set(layer)
    assert listed == sorted(listed, key=lambda package: layer[package])
    picture = text.split("```")[1].splitlines()
    rows = [next(n for n, line in enumerate(picture) if re.search(rf"\b{name}(/|\.py)", line)) for name in listed]
    assert rows == sorted(rows), "the picture has the layers in another order"
    assert len(set(rows)) == len(LAYERS)
    tops = {path.name for path in (PROJECT / "git_theta_ext").iterdir()} | {"plugins", "hooks", "scripts", "tests"}
    named = [name for name in re.findall(r"(?<![\w/.])[a-z_]+/[\w/]*(?:\.py)?", text) if name.split("/")[0] in tops]
    assert len(named) > len(layer)
    roots = (PROJECT, PROJECT / "git_theta_ext")
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []


def test_git_and_the_store_meet_in_operations_alone() -> None:
    below = {"config", "errors", "git", "model", "records", "settings", "util", "version"}
    for path in sources("git_theta_ext"):
        if home(path) == "git":
            assert packages(path) <= below, path
        elif home(path) not in {"cli", "api", "operations"}:
            assert "git" not in packages(path), path


def test_no_modules_import_each_other() -> None:
    names = {name_of(path): path for path in sources("git_theta_ext")}
    graph = {name: {found for found in map(longest(names), imported(path)) if found} for name, path in names.items()}
    graph.pop("git_theta_ext")  # it loads what notebooks need when they ask for it
    tuple(TopologicalSorter(graph).static_order())


def test_plugins_import_only_what_a_third_party_would() -> None:
    for path in sources("plugins"):
        # What is said on a wire is tested apart from who says it.
        wire = {"protocol"} if path.parent.name == "remotes" else set()
        assert packages(path) <= {"errors", "interfaces", *wire}, path


def test_only_the_top_reads_the_environment() -> None:
    for path in sources("git_theta_ext", "plugins"):
        if home(path) not in {"cli", "operations", "git"}:
            nodes = ast.walk(ast.parse(path.read_text()))
            names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
            assert not names & {"os.environ", "os.getenv", "os.environb"}, path


def test_only_the_workspace_opens_a_store() -> None:
    for path in sources("git_theta_ext/operations", "git_theta_ext/cli", "git_theta_ext/git"):
        nodes = ast.walk(ast.parse(path.read_text()))
        opens = any(isinstance(node, ast.Call) and ast.unparse(node.func) == "Store" for node in nodes)
        assert opens == (path.name == "workspace.py"), path


def test_only_commands_write_to_the_terminal() -> None:
    for path in sources("git_theta_ext", "plugins"):
        if home(path) != "cli":
            nodes = list(ast.walk(ast.parse(path.read_text())))
            names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
            calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
            assert not names & {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}, path
            assert not calls & {"print", "input"}, path


def test_pure_modules_touch_no_file_and_no_process() -> None:
    for path in sources(*PURE):
        nodes = ast.walk(ast.parse(path.read_text()))
        assert "open" not in {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}, path
        impure = {"os", "io", "sys", "subprocess", "pathlib", "shutil"}
        assert not {name.split(".")[0] for name in imported(path)} & impure, path


def test_every_package_is_declared() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    there = {".".join(path.parent.relative_to(PROJECT).parts) for path in sources("git_theta_ext", "plugins", "hooks")}
    there = {name.replace("plugins", "git_theta_plugins").replace("hooks", "git_theta_ext.hooks") for name in there}
    pages = "git_theta_ext.docs"
    assert {*there, pages} == set(setup["options"]["packages"].split())


def test_modules_are_short_enough_to_read() -> None:
    for path in sources("git_theta_ext", "plugins", "scripts"):
        assert len(path.read_text().splitlines()) <= 300, path
