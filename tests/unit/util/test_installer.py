"""Commands that change an installation are those of what installed it."""

from __future__ import annotations

import sys

import pytest

from git_theta_ext.errors import CorruptError, FormatError
from git_theta_ext.model.layout import Layout
from git_theta_ext.store.packs.format import MAGIC, header_length
from git_theta_ext.util.installer import (
    install_command,
    library_command,
    needed_environment,
    path_command,
    program_folder,
    rebuild_command,
    upgrade_command,
)

PIPX, UV, PIP = "pipx_metadata.json", "uv-receipt.toml", "pyvenv.cfg"


@pytest.fixture
def installed_by(tmp_path, monkeypatch):
    def installed_by(file):
        (tmp_path / file).touch()
        monkeypatch.setattr("sys.prefix", str(tmp_path))

    return installed_by


@pytest.mark.parametrize(
    ("file", "extra", "version", "command"),
    [
        (PIPX, "merge", None, "pipx inject git-theta-ext 'git-theta-ext[merge]'"),
        (UV, "merge", None, "uv tool install 'git-theta-ext[all]'"),
        (UV, "cluster", "1.2", "uv tool install 'git-theta-ext[all,cluster]==1.2'"),
        (PIP, "merge", None, "pip install 'git-theta-ext[merge]'"),
        (PIP, "cluster", "1.2", "pip install 'git-theta-ext[cluster]==1.2'"),
    ],
)
def test_an_extra_is_added(installed_by, file, extra, version, command):
    installed_by(file)
    assert install_command(extra, version) == command


@pytest.mark.parametrize(
    ("file", "program"), [(PIPX, "pipx"), (UV, "uv"), (PIP, "pip")], ids=["pipx", "uv tool", "pip"]
)
def test_every_command_is_of_the_same_program(installed_by, file, program):
    installed_by(file)
    commands = [upgrade_command(), rebuild_command(), library_command("pandas"), library_command("pandas", again=True)]
    commands = [command.removeprefix("PIP_NO_CACHE_DIR=1 ") for command in commands]
    assert [command.split()[0] for command in commands] == [program] * 4
    assert len(set(commands)) == 4


def test_pipx_and_uv_have_commands_that_put_programs_on_path(installed_by, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(tmp_path / "venv/bin/git-theta"), "doctor"])
    assert path_command("git-theta") == f'export PATH="{tmp_path}/venv/bin:$PATH"'
    installed_by(PIPX)
    assert path_command("git-theta") == "pipx ensurepath"


def test_the_directory_of_programs_is_the_one_on_path_rather_than_what_links_lead_to(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git-theta").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert program_folder("git-theta") == tmp_path / "bin"


def test_data_of_a_newer_version_name_the_command_that_upgrades(installed_by):
    installed_by(PIPX)
    with pytest.raises(CorruptError, match="pack version") as caught:
        header_length(MAGIC + bytes([255]) * 40)
    assert caught.value.hint == "pipx upgrade git-theta-ext"
    with pytest.raises(FormatError, match="skeleton version") as unknown:
        Layout.from_skeleton(b"git-theta skeleton 9\n")
    assert unknown.value.hint == "pipx upgrade git-theta-ext"


def test_only_a_virtual_environment_of_pip_must_be_active(installed_by, tmp_path, monkeypatch):
    installed_by(PIP)
    assert needed_environment() == tmp_path
    monkeypatch.setattr("sys.base_prefix", str(tmp_path))
    assert needed_environment() is None
    monkeypatch.undo()
    installed_by(UV)
    assert needed_environment() is None
