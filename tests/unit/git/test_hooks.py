from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.hooks import (
    HOOKS,
    PRE_PUSH,
    PREPARE_COMMIT_MSG,
    ensure_hooks,
    hook_present,
    notes,
    place_hooks,
    remove_hooks,
)
from git_theta_ext.git.repository import Repository

OLD_HOOKS = Path(__file__).parents[2] / "golden/hooks"


def git(path, *args, check=True):
    return subprocess.run(["git", *args], cwd=path, capture_output=True, text=True, check=check)


@pytest.fixture
def top(tmp_path):
    git(tmp_path, "init", "-q", "top")
    return tmp_path / "top"


each_hook = pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.event)


def at(top, hook):
    return top / ".git/hooks" / hook.event


def write_hook(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_hooks_are_written_executable_and_only_once(top):
    repo = Repository.discover(top)
    assert not hook_present(repo)
    assert [(change.what, change.where) for change in ensure_hooks(repo)] == [
        ("wrote", str(at(top, hook))) for hook in HOOKS
    ]
    for hook in HOOKS:
        assert at(top, hook).read_bytes() == hook.script()
        assert os.access(at(top, hook), os.X_OK)
        assert hook_present(repo, hook)
    assert ensure_hooks(repo) == []


def test_a_missing_hooks_folder_is_made(top):
    for path in (top / ".git/hooks").iterdir():
        path.unlink()
    (top / ".git/hooks").rmdir()
    assert place_hooks(Repository.discover(top))


def test_all_work_trees_share_the_hooks(top, tmp_path):
    git(top, "commit", "--allow-empty", "-qm", "one")
    git(top, "worktree", "add", "-q", str(tmp_path / "linked"))
    place_hooks(Repository.discover(tmp_path / "linked"))
    assert all(at(top, hook).exists() for hook in HOOKS)


@each_hook
def test_a_foreign_hook_is_kept_and_the_line_to_add_is_reported(top, hook):
    write_hook(at(top, hook), "#!/bin/sh\ngit lfs something\n")
    (change,) = [c for c in place_hooks(Repository.discover(top)) if c.where == str(at(top, hook))]
    assert change.what == ("todo" if hook.needed else "option")
    assert change.note == f"{hook.without}: {at(top, hook)} does not call git theta"
    assert change.hint.endswith(hook.line)
    assert "lfs" in at(top, hook).read_text()


def test_the_hook_of_git_lfs_is_replaced_by_ours_which_calls_it_and_comes_back(top, tmp_path):
    repo = Repository.discover(top)
    write_hook(at(top, PRE_PUSH), '#!/bin/sh\ncommand -v git-lfs >/dev/null || { exit 2; }\ngit lfs pre-push "$@"\n')
    place_hooks(repo)
    assert at(top, PRE_PUSH).read_bytes() == PRE_PUSH.script()
    (top / ".git/lfs/objects").mkdir(parents=True)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git-theta", "git-lfs"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@" >>"{tmp_path}/log"; cat >>"{tmp_path}/log"\n')
        (tools / name).chmod(0o755)
    line = f"refs/heads/main {'1' * 40} refs/heads/main {'0' * 40}\n"
    env = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run([at(top, PRE_PUSH), "origin", "x y"], cwd=top, env=env, input=line, text=True, check=True)
    expected = ["git-theta hook pre-push origin x y", line.strip(), "git-lfs pre-push origin x y", line.strip()]
    assert (tmp_path / "log").read_text().splitlines() == expected
    remove_hooks(repo)
    assert at(top, PRE_PUSH).read_text() == '#!/bin/sh\ngit lfs pre-push "$@"\n'


@each_hook
def test_a_foreign_hook_with_our_line_counts_as_installed_and_a_comment_does_not(top, hook):
    write_hook(at(top, hook), f"#!/bin/sh\n# git theta hook {hook.event}\n")
    assert not hook_present(Repository.discover(top), hook)
    write_hook(at(top, hook), f"#!/bin/sh\n{hook.line}\n")
    assert hook_present(Repository.discover(top), hook)
    assert str(at(top, hook)) not in {change.where for change in place_hooks(Repository.discover(top))}


def test_nothing_is_written_into_a_hooks_folder_that_other_repositories_use_too(top, tmp_path):
    git(top, "config", "core.hooksPath", str(tmp_path / "shared-hooks"))
    changes = place_hooks(Repository.discover(top))
    assert [change.what for change in changes] == ["todo", "option"]
    assert [note.partition(":")[0] for note, _ in notes(changes)] == ["pushes do not upload parameters"]
    assert not (tmp_path / "shared-hooks").exists()


@pytest.mark.parametrize(
    ("setting", "place"), [(".husky", ".husky"), (".husky/_", ".husky"), (".githooks/", ".githooks")]
)
def test_only_the_hook_that_pushes_need_is_added_to_a_hooks_folder_of_the_repository(top, setting, place):
    write_hook(top / setting / "pre-commit", "#!/bin/sh\n")
    git(top, "config", "core.hooksPath", setting)
    path = top / place / "pre-push"
    changes = ensure_hooks(Repository.discover(top))
    assert [(change.what, change.where) for change in changes] == [
        ("wrote", str(path)),
        ("option", str(path.with_name("prepare-commit-msg"))),
    ]
    assert notes(changes) == [(f"{path} is new: it uploads parameters", f"git add {path}")]
    assert hook_present(Repository.discover(top))
    assert notes(ensure_hooks(Repository.discover(top))) == []


def test_a_hook_of_the_chosen_folder_is_kept(top):
    write_hook(top / ".husky/pre-push", "#!/bin/sh\nnpm test\n")
    git(top, "config", "core.hooksPath", ".husky/_")
    repo = Repository.discover(top)
    ((note, hint),) = notes(ensure_hooks(repo))
    assert f"{top}/.husky/pre-push does not call git theta" in note
    assert hint.endswith(PRE_PUSH.line)
    assert not hook_present(repo)
    assert (top / ".husky/pre-push").read_text() == "#!/bin/sh\nnpm test\n"


def test_a_hook_of_ours_that_git_ignores_as_it_is_not_executable_is_written_anew(top):
    place_hooks(Repository.discover(top))
    at(top, PRE_PUSH).chmod(0o644)
    repo = Repository.discover(top)
    assert not hook_present(repo)
    assert [change.what for change in ensure_hooks(repo)] == ["wrote"]
    assert hook_present(repo)


def test_a_foreign_hook_that_calls_us_and_is_not_executable_is_reported_with_the_command(top):
    write_hook(at(top, PRE_PUSH), f"#!/bin/sh\n{PRE_PUSH.line}\nnpm test\n")
    at(top, PRE_PUSH).chmod(0o644)
    ((note, hint),) = notes(place_hooks(Repository.discover(top)))
    assert "is not executable" in note
    subprocess.run(["sh", "-c", hint], check=True)
    assert notes(place_hooks(Repository.discover(top))) == []


@pytest.mark.parametrize("old", sorted(OLD_HOOKS.iterdir()), ids=lambda path: path.name)
def test_a_hook_of_an_earlier_version_is_replaced_and_removed(top, old):
    (hook,) = [hook for hook in HOOKS if old.name.startswith(hook.event)]
    repo = Repository.discover(top)
    place_hooks(repo)
    at(top, hook).write_bytes(old.read_bytes())
    assert [(change.what, change.where) for change in ensure_hooks(repo)] == [("wrote", str(at(top, hook)))]
    assert at(top, hook).read_bytes() == hook.script()
    at(top, hook).write_bytes(old.read_bytes())
    assert str(at(top, hook)) in {change.where for change in remove_hooks(repo)}


@each_hook
def test_only_an_untouched_hook_of_ours_is_removed(top, hook):
    repo = Repository.discover(top)
    place_hooks(repo)
    at(top, hook).write_bytes(hook.script() + b"echo mine\n")
    assert str(at(top, hook)) not in {change.where for change in remove_hooks(repo)}
    at(top, hook).write_bytes(hook.script())
    assert [(change.what, change.where) for change in remove_hooks(repo)] == [("removed", str(at(top, hook)))]
    assert not at(top, hook).exists()


def test_a_hook_that_cannot_be_written_is_an_error_with_its_path(top):
    for path in (top / ".git/hooks").iterdir():
        path.unlink()
    (top / ".git/hooks").rmdir()
    (top / ".git/hooks").write_text("in the way")
    with pytest.raises(RepositoryError, match="hooks/pre-push"):
        place_hooks(Repository.discover(top))


@pytest.mark.parametrize("attributes", ["", "*.bin filter=lfs\n", "*.safetensors filter=theta\n"])
@pytest.mark.parametrize("used", [False, True])
def test_without_the_program_only_pushes_of_models_are_refused(top, tmp_path, attributes, used):
    place_hooks(Repository.discover(top))
    if used:
        (top / ".git/theta").mkdir()
    (top / "models").mkdir()
    (top / "models/.gitattributes").write_text(attributes)
    git(top, "add", "models")
    git(top, "commit", "--allow-empty", "-qm", "one")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "git"):
        (tools / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        [top / ".git/hooks/pre-push", "origin", "x"],
        cwd=top,
        env={"PATH": str(tools)},
        input=f"refs/heads/main {git(top, 'rev-parse', 'HEAD').stdout.strip()} refs/heads/main {'0' * 40}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    refused = used or "theta" in attributes
    assert done.returncode == (2 if refused else 0)
    assert ("git-theta is not on PATH" in done.stderr) == refused


@pytest.mark.parametrize("code", [0, 1])
def test_the_line_to_add_leaves_the_other_hook_its_input_and_fails_closed(tmp_path, code):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text(f'#!/bin/sh\ncat >"{tmp_path}/ours"\nexit {code}\n')
    (tools / "git").chmod(0o755)
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\n{PRE_PUSH.line}\ncat >"{tmp_path}/theirs"\n')
    hook.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([hook, "origin", "x"], input=b"refs\n", env={**os.environ, "PATH": path}, check=False)
    assert done.returncode == code
    assert (tmp_path / "ours").read_bytes() == b"refs\n"
    assert (tmp_path / "theirs").exists() == (code == 0)
    assert code or (tmp_path / "theirs").read_bytes() == b"refs\n"


@pytest.mark.parametrize("merging", [False, True])
def test_the_line_to_add_calls_us_only_while_something_is_noted(top, tmp_path, merging):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git-theta").write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/called"\n')
    (tools / "git-theta").chmod(0o755)
    at(top, PREPARE_COMMIT_MSG).write_text(f'#!/bin/sh\n{PREPARE_COMMIT_MSG.line}\ntouch "{tmp_path}/theirs"\n')
    at(top, PREPARE_COMMIT_MSG).chmod(0o755)
    if merging:
        (top / ".git/theta").mkdir()
        (top / ".git/theta/merge.json").write_text("{}")
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["git", "commit", "-qm", "x", "--allow-empty"], cwd=top, env={**os.environ, "PATH": path}, check=True
    )
    assert (tmp_path / "called").exists() == merging
    assert (tmp_path / "theirs").exists()
    if merging:
        assert (tmp_path / "called").read_text() == "hook prepare-commit-msg .git/COMMIT_EDITMSG message\n"
