"""``git theta`` says what to do next, and ``git theta doctor`` what is wrong; what they name works."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from helpers import MODEL, Repo

from git_theta_ext.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def codes(repo: Repo) -> dict[str, str]:
    """Return the commands that are next, by code."""
    return {found["code"]: found["command"] for found in json.loads(repo.git("theta", "--json"))["next"]}


def doctor(repo: Repo, *args: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the exit code and what was found, by code."""
    done = repo.run("theta", "doctor", "--json", *args, check=False)
    return done.returncode, {found["code"]: found for found in json.loads(done.stdout)["findings"]}


def test_outside_a_repository_the_first_three_commands_are_named(tmp_path: Path) -> None:
    shown = Repo(tmp_path).git("theta")
    assert [command in shown for command in ("git theta install", "git theta track", "git add")] == [True] * 3
    assert json.loads(Repo(tmp_path).git("theta", "--json"))["worktree"] is None


def test_in_a_new_repository_the_steps_that_are_left_are_named(repo: Repo) -> None:
    assert list(codes(repo)) == ["add"]
    repo.write(b"", ".gitattributes")
    assert list(codes(repo)) == ["track", "add"]


def test_the_largest_file_that_may_be_a_model_is_suggested(repo: Repo) -> None:
    repo.write(b"", ".gitattributes")
    repo.write(bytes(10), "data.npy")
    repo.write(bytes(100), "my models/net.pt")
    repo.write(bytes(1000), "notes.txt")
    commands = codes(repo)
    assert commands["track"] == "git theta track '*.pt'"
    assert commands["add"] == "git add .gitattributes 'my models/net.pt' && git commit"


def test_each_step_leads_to_the_next(repo: Repo) -> None:
    repo.write_model(seed=1)
    assert codes(repo) == {"untracked": f"git add {MODEL}"}
    repo.git("add", MODEL)
    assert codes(repo) == {"staged": "git commit"}
    repo.git("commit", "-qm", "model")
    assert "nothing to do" in repo.git("theta")
    repo.write_model(seed=2)
    assert codes(repo)["changed"] == f"git add {MODEL}"


def test_a_deleted_checkpoint_is_named(two: Repo) -> None:
    (two.path / MODEL).unlink()
    assert codes(two) == {"deleted": f"git rm {MODEL}"}
    two.git("restore", MODEL)
    assert codes(two) == {}
    (two.path / MODEL).unlink()
    two.git("rm", "--quiet", MODEL)
    assert codes(two) == {"staged": "git commit"}
    two.git("commit", "--quiet", "--message", "without")
    assert codes(two) == {}


def test_a_broken_link_in_place_of_a_checkpoint_is_a_change(two: Repo) -> None:
    (two.path / MODEL).unlink()
    (two.path / MODEL).symlink_to("nowhere")
    assert codes(two) == {"changed": f"git add {MODEL}"}


def test_a_directory_that_was_moved_has_no_changes(two: Repo, tmp_path: Path) -> None:
    moved = Repo(two.path.rename(tmp_path / "moved"))
    assert codes(moved) == {}
    moved.write_model(seed=3)
    assert codes(moved) == {"changed": f"git add {MODEL}"}


def test_a_clone_without_a_checkout_is_to_be_checked_out(two: Repo, tmp_path: Path) -> None:
    two.git("clone", "--quiet", "--no-checkout", str(two.path), str(tmp_path / "clone"))
    clone = Repo(tmp_path / "clone")
    assert codes(clone) == {"install": "git theta install", "not_checked_out": "git checkout"}
    clone.git("theta", "install", "--local")
    assert codes(clone) == {"not_checked_out": "git checkout"}
    clone.git("checkout", "--quiet")
    assert clone.read() == two.read()


def test_a_collection_is_named_once_enough_was_added(repo: Repo) -> None:
    repo.write_model(seed=1)
    repo.commit("model")
    assert codes(repo) == {}
    repo.git("config", "theta.gcAuto", "0")  # none starts by itself: the bound is the default
    assert codes(repo) == {}
    repo.git("config", "theta.gcAuto", "1k")
    assert codes(repo) == {"uncollected": "git theta gc"}
    repo.git("theta", "gc")
    assert codes(repo) == {}


def test_a_pack_that_nothing_read_for_a_week_is_to_be_verified(two: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    for pack in (two.path / ".git/theta/packs").glob("*/*"):
        os.utime(pack, (0, 0))
    assert codes(two)["unverified"] == "git theta fsck"
    monkeypatch.setattr("git_theta_ext.store.verification.checks._RACY_SECONDS", -3600)
    two.git("theta", "fsck")
    assert "unverified" not in codes(two)


def test_a_pack_that_another_process_removes_meanwhile_does_not_matter(
    two: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = codes(two)
    packs = Store.pack_files
    monkeypatch.setattr(
        Store, "pack_files", lambda store: [*packs(store), (store.root, store.root / "packs/aa" / ("a" * 64))]
    )
    assert codes(two) == before


def test_what_is_not_pushed_is_named_until_it_is(repo: Repo, shared: Repo) -> None:
    assert shared
    repo.write_model(seed=1)
    repo.commit("model")
    assert codes(repo)["not_pushed"] == "git push"
    repo.git("push", "-q", "-u", "origin", "HEAD")
    assert "not_pushed" not in codes(repo)
    code, found = doctor(repo)
    assert code == 0
    assert found["remote.origin"]["state"] == "ok"
    shared.path.rename(shared.path.with_name("moved"))
    code, found = doctor(repo)
    assert code == 1
    assert found["remote.origin"]["state"] == "problem"
    assert found["remote.origin"]["topic"] == "remotes"
    assert doctor(repo, "--offline")[0] == 0


def test_a_conflict_comes_first(forked: Repo) -> None:
    forked.write_model(seed=4)
    forked.commit("all tensors")
    assert forked.run("merge", "-s", "theta", "-X", "method=conflict", "side", check=False).returncode == 1
    assert next(iter(codes(forked).items())) == ("conflicted", "git theta resolve")


def test_a_manifest_in_place_of_a_checkpoint_is_pending(two: Repo) -> None:
    two.write(two.run("cat-file", "blob", f"HEAD:{MODEL}").stdout.encode())
    assert codes(two)["pending"] == "git theta checkout"
    two.git("theta", "checkout")
    assert "pending" not in codes(two)


def test_a_missing_hook_and_missing_settings_are_problems(two: Repo) -> None:
    assert doctor(two)[0] == 0
    (two.path / ".git/hooks/pre-push").unlink(missing_ok=True)
    two.run("config", "--local", "--unset-all", "hook.theta.command", check=False)
    assert codes(two)["hook_missing"] == doctor(two)[1]["pre-push"]["command"] == "git theta install --local"
    two.git("theta", "install", "--local")
    assert doctor(two)[0] == 0
    two.git("theta", "uninstall", "--local")
    assert codes(two)["not_configured"] == doctor(two)[1]["settings"]["command"] == "git theta install"


def test_without_models_it_is_no_problem_that_a_repository_is_not_set_up(repo: Repo) -> None:
    repo.git("theta", "uninstall", "--local")
    assert doctor(repo)[0] == 1
    repo.write(b"", ".gitattributes")
    code, found = doctor(repo)
    assert (code, found["settings"]["state"], found["pre-push"]["state"]) == (0, "note", "note")
    assert found["settings"]["command"] == "git theta install"


def test_programs_of_a_desktop_need_the_directory_of_the_program(two: Repo) -> None:
    assert doctor(two)[1]["settings"]["state"] == "ok"
    two.git("config", "theta.path", "/nowhere")
    code, found = doctor(two)
    assert (code, found["settings"]["state"], found["settings"]["topic"]) == (0, "note", "editors")
    two.git("theta", "install", "--local")
    assert doctor(two)[1]["settings"]["state"] == "ok"


def test_a_checkpoint_in_git_itself_is_a_problem(two: Repo) -> None:
    two.git("-c", "filter.theta.process=", "-c", "filter.theta.required=false", "add", "--renormalize", MODEL)
    code, found = doctor(two)
    assert (code, found["raw"]["command"]) == (1, f"git theta add {MODEL}")
    assert codes(two)["raw"] == f"git theta add {MODEL}"
    assert codes(two).keys().isdisjoint({"changed", "without_attribute"}), "git add does nothing, nothing is a manifest"
    two.git("theta", "add", MODEL)
    assert doctor(two)[0] == 0


def test_a_program_that_git_does_not_find_is_a_problem(two: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("git_theta_ext.operations.health.doctor.shutil.which", lambda *_, **__: None)
    code, found = doctor(two)
    assert code == 1
    assert "PATH" in found["program"]["command"]


def test_models_in_a_submodule_are_found(two: Repo, tmp_path: Path) -> None:
    outer = Repo(tmp_path / "outer")
    outer.path.mkdir()
    outer.git("init", "--quiet")
    outer.git("submodule", "--quiet", "add", str(two.path), "the weights")
    (step,) = json.loads(outer.git("theta", "--json"))["next"]
    assert (step["text"], step["command"]) == (
        "the weights is a submodule with models",
        "(cd 'the weights' && git theta)",
    )
    assert outer.git("theta", "status").splitlines() == [f"{step['text']}: {step['command']}"]
    outer.git("submodule", "--quiet", "deinit", "--force", "--all")
    step = json.loads(outer.git("theta", "--json"))["next"][0]
    assert step["command"] == "git submodule update --init 'the weights'"
    status = outer.git("theta", "status").splitlines()
    assert status[0] == f"{step['text']}: {step['command']}"
    assert "git theta track" in status[1]
