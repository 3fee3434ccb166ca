import shutil

import pytest
from adapters import lora_tensors
from helpers import EMBEDDING, MODEL, Repo, model, safetensors

from git_theta_ext.cli.main import main
from git_theta_ext.store.deltas.decode import Decoder

ZERO = "0" * 40


def one_tensor_changed(repo):
    repo.write(model(1))
    repo.commit("one")
    repo.write(model(1, {EMBEDDING: 2}))
    repo.commit("two")


@pytest.fixture
def versions(with_history, monkeypatch) -> Repo:
    """Two committed versions that differ in one tensor; the second is in the work tree."""
    repo = with_history(one_tensor_changed)
    monkeypatch.chdir(repo.path)
    return repo


def driven(capsys, *words):
    assert main(["diff-driver", *words]) == 0
    return capsys.readouterr().out.splitlines()


def blob(repo, rev, name):
    """Write what git would hand over for a committed version: its manifest; return file, id and mode."""
    repo.write(repo.git("cat-file", "blob", f"{rev}:{MODEL}").encode() + b"\n", name)
    return name, repo.git("rev-parse", f"{rev}:{MODEL}"), "100644"


def test_two_commits_are_compared_with_numbers(versions, capsys):
    found = driven(capsys, MODEL, *blob(versions, "HEAD~", "old"), *blob(versions, "HEAD", "new"))
    assert found[0] == f"diff --theta {MODEL}"
    assert found[1].startswith("1 modified, 13 unchanged")
    assert found[2].startswith(f"~ {EMBEDDING}  F32 [256,64]  modified  rel. change 1.4e+00")
    assert len(found) == 3


def test_git_diff_shows_it(versions):
    assert "rel. change" in versions.git("diff", "HEAD~", "HEAD")
    versions.write(model(4))
    assert "14 modified" in versions.git("diff")
    versions.git("add", MODEL)
    assert "14 modified" in versions.git("diff", "--cached")


def test_the_checkpoint_in_the_work_tree_is_read_as_it_is(versions, capsys):
    versions.write(model(1, {EMBEDDING: 7}))
    found = driven(capsys, MODEL, *blob(versions, "HEAD", "old"), MODEL, ZERO, "100644")
    assert "rel. change" in found[2]
    assert versions.git("status", "--porcelain", MODEL).endswith(MODEL)


def test_an_id_is_believed_over_the_file(versions, capsys):
    # As git does where the index's version equals the file of the work tree.
    _, oid, mode = blob(versions, "HEAD", "new")
    assert driven(capsys, MODEL, *blob(versions, "HEAD", "old"), MODEL, oid, mode) == []


def test_a_git_that_asks_gets_an_answer(versions, capsys, monkeypatch):
    old, new = blob(versions, "HEAD~", "old"), blob(versions, "HEAD", "new")
    versions.git("config", "diff.theta.trustExitCode", "true")
    monkeypatch.setattr("git_theta_ext.git.install.git_version", lambda: (2, 46))
    assert main(["diff-driver", MODEL, *old, *new]) == 1
    assert main(["diff-driver", MODEL, *new, *new]) == 0
    assert main(["diff-driver", MODEL]) == 1
    monkeypatch.setattr("git_theta_ext.git.install.git_version", lambda: (2, 45))
    assert main(["diff-driver", MODEL, *old, *new]) == 0


def test_added_and_deleted_files(versions, capsys):
    side, none = blob(versions, "HEAD", "side"), ("/dev/null", ".", ".")
    assert driven(capsys, MODEL, *none, *side)[1].startswith("new file (safetensors): 14 parameters")
    assert driven(capsys, MODEL, *side, *none)[1].startswith("deleted file (safetensors): 14 parameters")


def test_a_version_from_before_tracking_is_described(versions, capsys):
    versions.write(model(1), "raw")
    raw = versions.git("hash-object", "-w", "--no-filters", "raw")
    found = driven(capsys, MODEL, "raw", raw, "100644", *blob(versions, "HEAD", "new"))
    assert found[1].startswith("1 modified")
    assert "rel. change" in found[2]


def test_a_rename_names_both_paths(versions, capsys):
    words = (
        *blob(versions, "HEAD", "old"),
        *blob(versions, "HEAD", "new"),
        "other.safetensors",
        "similarity index 100%",
    )
    assert driven(capsys, MODEL, *words)[0] == f"diff --theta {MODEL} -> other.safetensors"


def test_a_change_of_mode_alone_is_shown(versions, capsys):
    old, new = blob(versions, "HEAD", "old"), blob(versions, "HEAD", "new")
    assert driven(capsys, MODEL, *old, *new[:2], "100755")[-1] == "mode 100644 -> 100755"


def test_values_that_are_not_here_leave_names_and_a_way_to_get_them(versions, capsys):
    shutil.rmtree(versions.path / ".git/theta")
    found = driven(capsys, MODEL, *blob(versions, "HEAD~", "old"), *blob(versions, "HEAD", "new"))
    assert found[2].rstrip() == f"~ {EMBEDDING}  F32 [256,64]  modified"
    assert "git theta fetch REMOTE REV gets them" in found[3]


def test_numbers_stay_known_without_the_values(versions, capsys):
    words = (MODEL, *blob(versions, "HEAD~", "old"), *blob(versions, "HEAD", "new"))
    first = driven(capsys, *words)
    shutil.rmtree(versions.path / ".git/theta/packs")
    assert driven(capsys, *words) == first


def test_values_that_only_the_work_tree_has_are_taken_from_there(versions, capsys):
    versions.switch("HEAD~")
    versions.write(model(1, {EMBEDDING: 2}), "other.safetensors")
    shutil.rmtree(versions.path / ".git/theta")
    oid = versions.git("rev-parse", f"HEAD:{MODEL}")
    found = driven(capsys, MODEL, MODEL, oid, "100644", "other.safetensors", ZERO, "100644")
    assert "rel. change" in found[2]


def test_conflicts_are_shown(versions, capsys, monkeypatch):
    versions.switch("-b", "side", "HEAD~")
    versions.write(model(1, {EMBEDDING: 3}))
    versions.commit("side")
    monkeypatch.setenv("GIT_THETA_MERGE", "conflict")
    assert versions.run("merge", "main", check=False).returncode == 1
    found = driven(capsys, MODEL, *blob(versions, "HEAD", "old"), MODEL, ZERO, "100644")
    assert f"! {EMBEDDING}: changed by both" in found


def test_git_decides_on_colour(versions):
    assert "\x1b[" not in versions.git("diff", "HEAD~", "HEAD")
    assert "\x1b[33m~" in versions.git("-c", "color.diff=always", "diff", "HEAD~", "HEAD")


def test_other_numbers_of_arguments_are_refused(versions, capsys):
    assert main(["diff-driver", "one", "two"]) != 0
    assert "git passes 1, 7 or 9" in capsys.readouterr().err


def test_a_path_that_a_merge_left_undecided_comes_alone(versions, capsys):
    assert driven(capsys, MODEL) == [f"* Unmerged path {MODEL}"]


def test_each_factor_of_a_lora_is_decoded_once(with_history, monkeypatch, capsys):
    def adapters(repo):
        for rank in (4, 6):
            repo.write(safetensors(lora_tensors(rank=rank)))
            repo.commit(str(rank))

    repo = with_history(adapters)
    monkeypatch.chdir(repo.path)
    decoded, real = [], Decoder.decode

    def decode(self, blobs, digest, *rest):
        decoded.append(digest)
        real(self, blobs, digest, *rest)

    monkeypatch.setattr(Decoder, "decode", decode)
    found = driven(capsys, MODEL, *blob(repo, "HEAD~", "old"), *blob(repo, "HEAD", "new"))
    assert any("LoRA, rank 4 -> rank 6" in line for line in found)
    assert decoded
    assert len(decoded) == len(set(decoded))
