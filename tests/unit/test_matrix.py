"""``scripts/matrix`` finds what it tries."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import _matrix
import pytest

if TYPE_CHECKING:
    from pathlib import Path


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_python_that_cannot_be_started_is_looked_for_among_those_of_pyenv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}:/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    write_program(tmp_path / "shims" / "python3.99", "exit 127")
    assert _matrix._python("python3.99", needed=False) is None
    with pytest.raises(SystemExit, match=r"python3\.99 cannot be started"):
        _matrix._python("python3.99", needed=True)
    write_program(tmp_path / "versions" / "3.99.1" / "bin" / "python3.99", "echo /found")
    assert _matrix._python("python3.99", needed=True) == "/found"


def test_marked_modules_need_no_torch() -> None:
    mark, chosen, *modules = _matrix._portable(_matrix.PROJECT)
    assert (mark, chosen) == ("-m", "portable")
    assert len(modules) > 4
    for module in modules:
        with open(module, encoding="utf-8") as file:  # noqa: PTH123 - it is an argument of pytest
            tree = ast.parse(file.read())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name for name in imported if name.split(".")[0] in {"torch", "safetensors"}}, module
