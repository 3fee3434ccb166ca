"""What tests of commands share."""

from __future__ import annotations

import json

import pytest

from git_theta_ext.cli.main import main


@pytest.fixture
def at(repo, monkeypatch):
    """Work in a repository that tracks checkpoints."""
    monkeypatch.chdir(repo.path)
    return repo


@pytest.fixture
def run_json(capsys):
    """Run a command with --json and return the object that it prints; ``code`` is the exit code that it must have."""

    def run(*words, code=0):
        capsys.readouterr()
        assert main([words[0], "--json", *words[1:]]) == code, capsys.readouterr().err
        found = json.loads(capsys.readouterr().out)
        assert found.pop("schema") == 1
        return found

    return run
