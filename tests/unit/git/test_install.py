from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers import needs_git

from git_theta_ext.errors import ConfigError, RepositoryError
from git_theta_ext.git import hooks
from git_theta_ext.git import install as installation
from git_theta_ext.git.hooks import git_version
from git_theta_ext.git.install import (
    SETTINGS,
    TRUSTED,
    TRUSTED_SINCE,
    configured,
    install,
    outdated,
    trusts_exit_code,
    uninstall,
)
from git_theta_ext.git.program import FIND
from git_theta_ext.git.repository import Repository
from git_theta_ext.settings import PATH


def git(path, *args, check=True):
    return subprocess.run(["git", *args], cwd=path, capture_output=True, text=True, check=check).stdout.strip()


@pytest.fixture
def top(tmp_path):
    git(tmp_path, "init", "-q", "top")
    return tmp_path / "top"


@pytest.mark.parametrize("scope", ["local", "global", "worktree"])
def test_installing_twice_changes_nothing_the_second_time(top, scope):
    first = install(scope, Repository.discover(top))
    expected = {PATH.key, *SETTINGS} | ({"init.templateDir"} if scope == "global" else set())
    expected |= {TRUSTED} if git_version() >= TRUSTED_SINCE else set()
    assert {change.where.split(" ")[0] for change in first if change.what == "set"} == expected
    assert configured(Repository.discover(top))
    assert install(scope, Repository.discover(top)) == []


def test_only_a_git_that_trusts_the_diff_driver_is_told_to(top, monkeypatch):
    monkeypatch.setattr("git_theta_ext.git.install.git_version", lambda: (2, 45))
    install("local", Repository.discover(top))
    assert git(top, "config", TRUSTED, check=False) == ""
    assert not trusts_exit_code(Repository.discover(top))
    monkeypatch.setattr("git_theta_ext.git.install.git_version", lambda: (2, 46))
    install("local", Repository.discover(top))
    assert git(top, "config", TRUSTED) == "true"
    assert trusts_exit_code(Repository.discover(top))
    # A newer git may have written it to a configuration that is shared.
    monkeypatch.setattr("git_theta_ext.git.install.git_version", lambda: (2, 45))
    assert not trusts_exit_code(Repository.discover(top))
    uninstall("local", Repository.discover(top))
    assert git(top, "config", TRUSTED, check=False) == ""


def test_a_filter_that_starts_python_at_once_is_replaced(top):
    former = f"{FIND}exec git-theta filter-process"
    git(top, "config", "filter.theta.process", former)
    assert configured(Repository.discover(top))
    assert outdated(Repository.discover(top))[0] == "filter.theta.process"
    install("local", Repository.discover(top))
    assert git(top, "config", "--get-all", "filter.theta.process") == SETTINGS["filter.theta.process"] != former


@pytest.mark.parametrize("program", ["git-theta", "git theta"])
def test_what_earlier_versions_wrote_is_ours(top, program):
    former = SETTINGS | {
        "filter.theta.process": f"{program} filter-process",
        "diff.theta.textconv": f"{program} textconv",
        "merge.theta.driver": f"{program} merge-driver %O %A %B %L %P",
        "diff.theta.command": f"{program} diff-driver",
        "mergetool.theta.cmd": 'git theta mergetool "$MERGED"',
        "hook.theta.command": "git theta hook pre-push",
    }

    def write():
        for key, value in former.items():
            git(top, "config", key, value)

    write()
    assert configured(Repository.discover(top))
    assert uninstall("local", Repository.discover(top))
    assert git(top, "config", "--get-regexp", "theta", check=False) == ""
    write()
    git(top, "config", "diff.theta.binary", "false")
    assert "diff.theta.binary (local)" in {change.where for change in install("local", Repository.discover(top))}
    assert git(top, "config", "diff.theta.binary", check=False) == ""
    for key in ("filter.theta.process", "diff.theta.command", "merge.theta.driver"):
        assert git(top, "config", "--get-all", key) == SETTINGS[key]


@pytest.mark.parametrize(("scope", "placed"), [("local", True), ("worktree", True), ("global", False)])
def test_only_installing_for_a_repository_writes_its_hooks(top, scope, placed):
    install(scope, Repository.discover(top))
    assert (top / ".git/hooks/pre-push").exists() == placed


def test_new_repositories_have_the_hooks_beside_what_git_gives_them(top, tmp_path, git_environment):
    install("global", None)
    template = git_environment / ".local/share/git-theta/template"
    assert git(top, "config", "--global", "init.templateDir") == str(template)
    git(tmp_path, "clone", "-q", "--bare", "top", "mirror.git")
    for hook in hooks.HOOKS:
        assert (tmp_path / "mirror.git/hooks" / hook.event).read_bytes() == hook.script()
        assert os.access(tmp_path / "mirror.git/hooks" / hook.event, os.X_OK)
    assert {path.name for path in (top / ".git").iterdir()} >= {"description", "info"}
    assert (tmp_path / "mirror.git/info/exclude").read_bytes() == (top / ".git/info/exclude").read_bytes()
    (template / "hooks/pre-push").write_text("of an earlier version")
    assert [change.where for change in install("global", None)] == [str(template)]
    uninstall("global", None)
    assert not (template / "hooks/pre-push").exists()
    made = subprocess.run(
        ["git", "-c", f"init.templateDir={template}", "init", "other"], cwd=tmp_path, capture_output=True, check=True
    )
    assert b"warning" not in made.stderr  # for a configuration that still names the folder
    assert git(top, "config", "--global", "init.templateDir", check=False) == ""


def test_an_installation_that_was_killed_leaves_nothing_after_the_next(top, git_environment):
    killed = (
        "import os, signal\n"
        "from git_theta_ext.git import template\n"
        "template.run_git = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "template.write_template()\n"
    )
    subprocess.run([sys.executable, "-c", killed], check=False)
    data = git_environment / ".local/share/git-theta"
    assert len(list(data.iterdir())) == 1
    install("global", None)
    assert [path.name for path in data.iterdir()] == ["template"]
    assert not list(data.glob("template/hooks/.*"))


def test_two_first_installations_at_once_both_succeed(top, git_environment):
    command = [sys.executable, "-c", "from git_theta_ext.git.install import install; install('global', None)"]
    running = [subprocess.Popen(command, cwd=top) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert install("global", None) == []


def test_a_locked_configuration_is_waited_for(top, git_environment, monkeypatch):
    lock = git_environment / ".gitconfig.lock"
    lock.touch()
    monkeypatch.setattr(installation.time, "sleep", lambda _: lock.unlink())
    install("global", None)
    lock.touch()
    monkeypatch.setattr(installation, "_PATIENCE", -1)
    with pytest.raises(RepositoryError, match="could not lock"):
        uninstall("global", None)
    lock.unlink()


@needs_git((2, 32), "GIT_CONFIG_GLOBAL")
def test_hooks_of_a_template_that_another_configuration_names_stay(top, git_environment, monkeypatch):
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    install("global", None)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(git_environment / "other"))
    install("global", None)
    uninstall("global", None)
    pushed = git_environment / ".local/share/git-theta/template/hooks/pre-push"
    assert pushed.exists()
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    uninstall("global", None)
    assert not pushed.exists()


def test_a_template_of_the_users_own_is_left_alone(top, tmp_path, git_environment):
    git(top, "config", "--global", "init.templateDir", str(tmp_path))
    install("global", None)
    uninstall("global", None)
    assert git(top, "config", "--global", "init.templateDir") == str(tmp_path)
    assert not (git_environment / ".local").exists()


def test_one_shot_filters_are_not_set(top):
    install("global", Repository.discover(top))
    assert git(top, "config", "--get-regexp", r"filter\.theta\.(clean|smudge)", check=False) == ""


@pytest.mark.parametrize("scope", ["local", "global"])
def test_uninstalling_leaves_nothing_of_ours(top, scope):
    repo = Repository.discover(top)
    install(scope, repo)
    assert uninstall(scope, repo)
    assert git(top, "config", "--get-regexp", "theta", check=False) == ""
    assert not (top / ".git/hooks/pre-push").exists()
    assert uninstall(scope, repo) == []


def test_uninstalling_keeps_what_is_somebody_elses(top):
    git(top, "config", "diff.theta.command", "mine")
    (top / ".git/hooks/pre-push").write_text("#!/bin/sh\nexit 0\n")
    uninstall("local", Repository.discover(top))
    assert git(top, "config", "diff.theta.command") == "mine"
    assert (top / ".git/hooks/pre-push").exists()


def test_a_foreign_value_is_kept_unless_forced(top):
    git(top, "config", "merge.theta.driver", "mine")
    with pytest.raises(ConfigError, match=r"merge\.theta\.driver is 'mine'") as caught:
        install("local", Repository.discover(top))
    assert caught.value.hint == "git theta install --local --force"
    assert git(top, "config", "filter.theta.process", check=False) == ""
    install("local", Repository.discover(top), force=True)
    assert git(top, "config", "merge.theta.driver") == SETTINGS["merge.theta.driver"]


def test_several_values_of_one_key_become_one(top):
    git(top, "config", "filter.theta.required", "false")
    git(top, "config", "--add", "filter.theta.required", "true")
    install("local", Repository.discover(top))
    assert git(top, "config", "--get-all", "filter.theta.required") == "true"


@pytest.mark.parametrize("scope", ["local", "worktree"])
def test_a_scope_that_needs_a_repository_says_so_outside_of_one(scope):
    with pytest.raises(RepositoryError, match=f"--{scope}") as caught:
        install(scope, None)
    assert caught.value.hint == "git theta install --global"


def test_global_settings_need_no_repository(top):
    assert install("global", None)
    assert configured(Repository.discover(top))


@pytest.mark.parametrize("hook", hooks.HOOKS, ids=lambda hook: hook.event)
def test_a_configured_hook_of_an_earlier_version_works_and_is_replaced(top, monkeypatch, hook):
    for module in ("install", "hooks"):
        monkeypatch.setattr(f"git_theta_ext.git.{module}.git_version", lambda: (2, 54))
    install("local", Repository.discover(top))
    key = f"hook.{hook.setting}.command"
    for former in hooks.FORMER_SETTINGS[key]:
        git(top, "config", key, former)
        assert hooks.hook_present(Repository.discover(top), hook)
        assert [change.where for change in install("local", Repository.discover(top))] == [f"{key} (local)"]
        assert git(top, "config", key) == hook.command
    git(top, "config", key, former)
    uninstall("local", Repository.discover(top))
    assert git(top, "config", key, check=False) == ""


def test_on_a_new_git_the_hook_is_configuration_and_our_file_goes(top, monkeypatch):
    repo = Repository.discover(top)
    git(top, "config", TRUSTED, "true")
    install("local", repo)
    monkeypatch.setattr("git_theta_ext.git.install.git_version", lambda: (2, 54))
    monkeypatch.setattr("git_theta_ext.git.hooks.git_version", lambda: (2, 54))
    changes = install("local", repo)
    assert {(c.what, c.where) for c in changes} == {
        *(("set", f"{key} (local)") for hook in hooks.HOOKS for key in hook.settings),
        *(("removed", str(top / ".git/hooks" / hook.event)) for hook in hooks.HOOKS),
    }
    fresh = Repository.discover(top)
    assert hooks.hook_present(fresh)
    assert hooks.ensure_hooks(fresh) == []
    uninstall("local", fresh)
    assert git(top, "config", "--get-regexp", "theta", check=False) == ""


def test_an_old_git_does_not_count_configured_hooks(top, monkeypatch):
    git(top, "config", "hook.theta.command", hooks.PRE_PUSH.command)
    monkeypatch.setattr("git_theta_ext.git.hooks.git_version", lambda: (2, 53))
    repo = Repository.discover(top)
    assert not hooks.hook_present(repo)
    assert [change.what for change in hooks.ensure_hooks(repo)] == ["wrote"] * len(hooks.HOOKS)


def test_the_version_of_git_is_read():
    assert (2, 20) < hooks.git_version() < (10, 0)
