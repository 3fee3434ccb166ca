"""Each command in a real repository, called in this process."""

from __future__ import annotations

import os
import re
import subprocess

import numpy as np
import pytest
from helpers import ATTENTION, EMBEDDING, MLP, MODEL, SPECS, fork, model, values

from git_theta_ext.cli.main import main
from git_theta_ext.model.manifest import Manifest

OTHER = "deeper/in a folder/other.safetensors"


def conflict(repo):
    fork(repo)
    repo.write_model(seed=1, changed={ATTENTION[0]: 2, ATTENTION[1]: 9, ATTENTION[2]: 9})
    repo.commit("main again")
    repo.switch("side")
    repo.write_model(seed=1, changed={ATTENTION[1]: 3, ATTENTION[2]: 3})
    repo.commit("side again")
    repo.switch("main")
    repo.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)


class TestAdd:
    def test_stages_what_git_add_would_and_git_reads_nothing_again(self, at, run_json):
        data = at.write_model()
        os.utime(MODEL, (1, 1))
        added = run_json("add", MODEL)["added"]
        assert [(item["path"], item["format"], item["parameters"], item["bytes"]) for item in added] == [
            (MODEL, "safetensors", len(SPECS), len(data))
        ]
        oid = at.git("rev-parse", f":{MODEL}")
        assert added[0]["manifest"] == oid
        assert at.cleans("status") == 0
        at.git("rm", "-q", "--cached", MODEL)
        at.git("add", MODEL)
        assert at.git("rev-parse", f":{MODEL}") == oid

    def test_takes_folders_and_patterns_below_the_current_folder(self, at, run_json, monkeypatch):
        at.write_model(OTHER)
        at.write_model()
        at.write(b"text", "deeper/notes.txt")
        monkeypatch.chdir("deeper")
        assert [item["path"] for item in run_json("add", ".")["added"]] == [OTHER]
        assert [item["path"] for item in run_json("add", "../mo*.safetensors")["added"]] == [MODEL]
        assert at.git("ls-files", "deeper") == f"{OTHER}"

    def test_a_dry_run_lists_and_stores_nothing(self, at, run_json):
        at.write_model()
        assert run_json("add", "--dry-run", ".") == {"would_add": [MODEL], "would_remove": []}
        assert at.git("ls-files", MODEL) == ""
        assert not list((at.path / ".git/theta/packs").glob("*/*"))

    def test_keeps_the_executable_bit(self, at, run_json):
        at.write_model()
        (at.path / MODEL).chmod(0o755)
        run_json("add", MODEL)
        assert at.git("ls-files", "-s", MODEL).startswith("100755")

    def test_leaves_links_beside_checkpoints_to_git(self, at, run_json, capsys):
        at.write_model()
        (at.path / "link.safetensors").symlink_to(MODEL)
        assert run_json("status")["untracked"] == [MODEL]
        assert main(["add", "."]) == 0
        assert "git add link.safetensors" in capsys.readouterr().err
        assert at.git("ls-files", "*.safetensors") == MODEL

    def test_a_link_alone_is_refused(self, at, capsys):
        (at.path / "link.safetensors").symlink_to(MODEL)
        assert main(["add", "link.safetensors"]) == 2
        assert "symbolic link" in capsys.readouterr().err

    def test_stages_a_deletion_as_git_add_does(self, at, run_json):
        at.write_model()
        run_json("add", MODEL)
        (at.path / MODEL).unlink()
        assert run_json("add", "--dry-run", MODEL) == {"would_add": [], "would_remove": [MODEL]}
        assert run_json("add", MODEL)["removed"] == [MODEL]
        assert at.git("ls-files", MODEL) == ""

    def test_tells_what_is_unchanged(self, at, run_json):
        at.write_model()
        assert [run_json("add", MODEL)["added"][0]["changed"] for _ in range(2)] == [True, False]

    def test_settles_an_unmerged_path(self, forked, run_json, monkeypatch):
        monkeypatch.chdir(forked.path)
        forked.write_model(seed=1, changed={ATTENTION[1]: 9})
        forked.commit("both")
        forked.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)
        forked.write_model(seed=5)
        run_json("add", MODEL)
        assert forked.git("ls-files", "-u") == ""

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("gone.safetensors", "did not match any file"),
            ("notes.txt", "not tracked by git theta"),
            ("link.safetensors", "symbolic link"),
            ("ignored.safetensors", "did not match any file"),
            ("../outside.safetensors", "outside repository"),
        ],
    )
    def test_refuses_what_it_cannot_stage_and_leaves_the_index_alone(self, at, path, message, capsys):
        at.write(b"text", "notes.txt")
        at.write(b"*ignored*\n", ".git/info/exclude")
        at.write_model("ignored.safetensors")
        at.write_model("../outside.safetensors")
        at.write_model()
        (at.path / "link.safetensors").symlink_to(MODEL)
        before = at.git("ls-files", "-s")
        assert main(["add", MODEL, path]) != 0 or path == "notes.txt"
        if path == "notes.txt":
            assert main(["add", path]) == 2
        else:
            assert at.git("ls-files", "-s") == before
        assert message in capsys.readouterr().err

    def test_a_damaged_file_is_named_and_nothing_is_staged(self, at, capsys):
        at.write_model()
        at.write(model()[:-1], "z.safetensors")
        at.git("config", "theta.strict", "true")
        before = at.git("ls-files", "-s")
        assert main(["add", "."]) == 4
        assert "z.safetensors" in capsys.readouterr().err
        assert at.git("ls-files", "-s") == before

    def test_a_manifest_in_its_place_is_staged_as_it_is(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        manifest = two.git("cat-file", "blob", f"one:{MODEL}").encode() + b"\n"
        two.write(manifest)
        run_json("add", MODEL)
        assert two.git("rev-parse", f":{MODEL}") == two.git("rev-parse", f"one:{MODEL}")

    def test_puts_the_hook_in_place(self, at, run_json):
        (at.path / ".git/hooks/pre-push").unlink(missing_ok=True)
        at.write_model()
        run_json("add", MODEL)
        assert (at.path / ".git/hooks/pre-push").exists()

    def test_asks_for_install_where_git_does_not_know_the_filter(self, at, capsys):
        at.git("theta", "uninstall", "--local")
        at.write_model()
        assert main(["add", MODEL]) == 11
        assert "hint: git theta install" in capsys.readouterr().err


class TestCheckout:
    def test_goes_on_where_git_left_manifests(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        two.git("checkout", "-q", "one", env={**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"})
        assert two.read().startswith(b"git-theta manifest 1\n")
        assert run_json("checkout") == {
            "written": [MODEL],
            "left": [],
            "gone": [],
            "without_attribute": [],
            "not_fetched": [],
        }
        assert two.problems(MODEL, model(1)) == []
        assert run_json("checkout", MODEL) == {
            "written": [],
            "left": [],
            "gone": [],
            "without_attribute": [],
            "not_fetched": [],
        }

    def test_leaves_changed_files_alone_unless_forced(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        two.write_model(seed=7)
        run_json("checkout")
        assert two.read() == model(7)
        assert run_json("checkout", "--force")["written"] == [MODEL]
        assert two.problems(MODEL, model(2)) == []

    def test_force_keeps_a_changed_file_whose_version_is_not_to_be_had(self, two, monkeypatch, capsys):
        monkeypatch.chdir(two.path)
        two.write_model(seed=7)
        for pack in (two.path / ".git/theta/packs").glob("*/*"):
            pack.unlink()
        assert main(["checkout", "--force"]) == 7
        assert two.read() == model(7)

    def test_names_paths_that_are_not_there(self, at, capsys):
        assert main(["checkout", "nothing"]) == 2
        assert "'nothing'" in capsys.readouterr().err


class TestStatus:
    def test_a_clean_repository_has_nothing_to_tell(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        found = run_json("status")
        assert not any(found[key] for key in ("staged", "not_staged", "untracked", "pending", "conflicted"))
        assert found["filter_configured"] is True
        assert found["not_pushed"] is None

    def test_a_manifest_that_is_everywhere_is_parsed_once_and_older_ones_not_at_all(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        two.git("remote", "add", "origin", "../remote.git")
        parsed = []
        parse = Manifest.parse

        def counting(data):
            parsed.append(data)
            return parse(data)

        monkeypatch.setattr(Manifest, "parse", counting)
        found = run_json("status")
        assert (found["not_staged"], found["not_pushed"]["versions"]) == ([], 2)
        assert len(parsed) == 1

    def test_tells_parameters_of_index_and_work_tree_apart(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        two.write_model(seed=2, changed={EMBEDDING: 3})
        run_json("add", MODEL)
        two.write_model(seed=2, changed={EMBEDDING: 3, ATTENTION[0]: 4})
        two.write_model("new.safetensors")
        found = run_json("status")
        assert [p["name"] for p in found["staged"][0]["parameters"]] == [EMBEDDING]
        assert [p["name"] for p in found["not_staged"][0]["parameters"]] == [ATTENTION[0]]
        assert found["untracked"] == ["new.safetensors"]

    def test_before_the_first_commit_everything_is_staged(self, tmp_path, run_json, monkeypatch, at):
        at.git("update-ref", "-d", "HEAD")
        at.write_model()
        run_json("add", MODEL)
        assert [item["path"] for item in run_json("status")["staged"]] == [MODEL]

    def test_deleted_files_are_reported(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        (two.path / MODEL).unlink()
        assert len(run_json("status")["not_staged"][0]["parameters"]) == len(SPECS)
        two.git("rm", "-q", "--cached", MODEL)
        assert len(run_json("status")["staged"][0]["parameters"]) == len(SPECS)

    def test_a_link_in_place_of_a_checkpoint_deletes_it(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        (two.path / MODEL).rename(two.path / "blob")
        for path in (MODEL, "new.safetensors"):
            (two.path / path).symlink_to("blob")
        (change,) = run_json("status")["not_staged"]
        assert (change["path"], len(change["parameters"])) == (MODEL, len(SPECS))

    def test_pending_work_and_what_is_not_pushed_are_reported(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        two.git("init", "-q", "--bare", "../remote.git")
        two.git("remote", "add", "origin", "../remote.git")
        assert run_json("status")["not_pushed"] == {"remote": "origin", "versions": 2, "tensors": 29, "nowhere": 29}
        two.git("push", "-q", "origin", "main")
        nothing = {"remote": "origin", "versions": 0, "tensors": 0, "nowhere": 0}
        assert run_json("status")["not_pushed"] == nothing
        for note in (two.path / ".git/theta/remotes").glob("*.complete"):
            note.unlink()  # what fetches and pushes saw of the remote's packs tells as well
        assert run_json("status")["not_pushed"] == nothing
        two.git("checkout", "-q", "one", env={**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"})
        assert run_json("status")["pending"] == [MODEL]

    def test_a_conflict_is_reported_once(self, forked, run_json, monkeypatch):
        monkeypatch.chdir(forked.path)
        forked.write_model(seed=1, changed={ATTENTION[1]: 9})
        forked.commit("both")
        forked.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)
        found = run_json("status")
        assert found["conflicted"] == [MODEL]
        assert (found["staged"], found["not_staged"], found["pending"]) == ([], [], [])

    def test_a_checkpoint_that_git_holds_as_it_is_is_reported(self, at, run_json, monkeypatch):
        at.write_model()
        at.git("-c", "filter.theta.process=", "-c", "filter.theta.required=false", "add", MODEL)
        assert run_json("status")["raw_in_index"] == [MODEL]

    def test_people_read_every_section(self, two, monkeypatch, capsys):
        monkeypatch.chdir(two.path)
        two.write_model(seed=2, changed={MLP[0]: 3})
        two.write_model("new.safetensors")
        assert main(["status"]) == 0
        shown = capsys.readouterr().out
        assert "Changed, not staged" in shown
        assert MLP[0] in shown
        assert "New (git theta add):\n  new.safetensors\n" in shown


class TestShow:
    def test_lists_checkpoints_of_commits_and_index(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        found = run_json("ls-files", "--params", "one")["checkpoints"][0]
        assert found["path"] == MODEL
        assert found["parameter_count"] == len(SPECS)
        assert [(p["name"], p["dtype"], tuple(p["shape"])) for p in found["parameters"]] == [
            (name, *SPECS[name]) for name in sorted(SPECS)
        ]
        assert "parameters" not in run_json("ls-files")["checkpoints"][0]

    def test_statistics_are_those_of_the_values(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        expected = np.frombuffer(values(EMBEDDING, 1), "<f4").astype(np.float64)
        found = run_json("show", f"one:{MODEL}", EMBEDDING)
        assert found["min"] == expected.min()
        assert found["max"] == expected.max()
        assert found["mean"] == pytest.approx(expected.mean(), rel=1e-12)
        assert found["std"] == pytest.approx(expected.std(), rel=1e-12)
        assert found["first"] == expected[:8].tolist()

    def test_integers_have_statistics_too(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        found = run_json("show", f":{MODEL}", "position_ids")
        assert (found["min"], found["max"], found["mean"]) == (2, 65, 33.5)

    def test_nan_and_infinity_are_counted_apart(self, at, run_json):
        from safetensors.numpy import save_file

        save_file({"w": np.array([1, np.nan, np.inf, 3], np.float32), "e": np.zeros((0, 4), np.float32)}, MODEL)
        run_json("add", MODEL)
        found = run_json("show", f":{MODEL}", "w")
        assert (found["nan"], found["inf"], found["min"], found["max"], found["mean"], found["std"]) == (
            1,
            1,
            1,
            3,
            2,
            1,
        )
        assert found["first"] == [1, "nan", "inf", 3]
        assert "min" not in run_json("show", f":{MODEL}", "e")

    def test_raw_bytes_go_to_stdout(self, two):
        command = ["git", "theta", "show", "--raw", f"one:{MODEL}", MLP[0]]
        assert subprocess.run(command, cwd=two.path, capture_output=True, check=True).stdout == values(MLP[0], 1)

    def test_relative_paths_count_from_the_current_folder(self, at, run_json, monkeypatch):
        at.write_model(OTHER)
        at.commit("one")
        monkeypatch.chdir("deeper")
        assert run_json("show", "HEAD:./in a folder/other.safetensors")["parameter_count"] == len(SPECS)

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            ([MODEL], 2, f"git theta show HEAD:{MODEL}"),
            (["HEAD:gone"], 3, "gone"),
            (["HEAD:.gitattributes"], 5, "not a checkpoint"),
            ([f"HEAD:{MODEL}", "embeddings.word.weigth"], 2, f"git theta show HEAD:{MODEL} embeddings.word.weight"),
            (["--raw", f"HEAD:{MODEL}"], 2, "--raw needs a parameter"),
        ],
    )
    def test_wrong_names_get_a_hint(self, two, words, code, message, monkeypatch, capsys):
        monkeypatch.chdir(two.path)
        assert main(["show", *words]) == code
        assert message in capsys.readouterr().err


class TestExport:
    def test_writes_the_committed_bytes(self, two, run_json, monkeypatch, tmp_path):
        monkeypatch.chdir(two.path)
        target = tmp_path / "out.safetensors"
        assert run_json("export", f"one:{MODEL}", str(target))["bytes"] == len(model(1))
        assert target.read_bytes() == model(1)

    def test_writes_over_nothing_unless_forced(self, two, monkeypatch, tmp_path, capsys):
        monkeypatch.chdir(two.path)
        target = tmp_path / "out.safetensors"
        target.write_bytes(b"precious")
        assert main(["export", f"one:{MODEL}", str(target)]) == 2
        assert target.read_bytes() == b"precious"
        assert "--force" in capsys.readouterr().err
        assert main(["export", "--force", f"one:{MODEL}", str(target)]) == 0
        assert target.read_bytes() == model(1)

    def test_a_missing_folder_is_named(self, two, monkeypatch, tmp_path, capsys):
        monkeypatch.chdir(two.path)
        assert main(["export", f"one:{MODEL}", str(tmp_path / "no" / "out")]) == 2
        assert "does not exist" in capsys.readouterr().err


class TestTrack:
    def test_tracks_lists_and_untracks(self, at, run_json, monkeypatch):
        at.write(b"", "sub folder/x")
        monkeypatch.chdir("sub folder")
        assert run_json("track") == {"tracked": []}
        assert run_json("track", "my model.*", "*.bin")["added"] == ["my model.*", "*.bin"]
        assert run_json("track", "*.bin")["added"] == []
        assert run_json("track")["tracked"] == ["my model.*", "*.bin"]
        assert at.git("check-attr", "filter", "sub folder/my model.pt").endswith("filter: theta")
        run_json("untrack", "my model.*")
        assert run_json("track")["tracked"] == ["*.bin"]

    def test_a_readme_says_once_how_to_get_the_models(self, at, run_json, monkeypatch, capsys):
        at.write(b"# Ours", "Readme.md")
        at.write(b"", "folder/x")
        monkeypatch.chdir("folder")
        run_json("track", "--readme", "*.bin")
        run_json("track", "--readme", "*.pt")
        text = at.read("Readme.md").decode()
        assert text.startswith("# Ours\n\n<!-- git theta")
        assert text.count("git theta checkout") == 1
        assert not (at.path / "README.md").exists()

    def test_a_preset_stands_for_patterns_and_can_be_staged(self, at, run_json):
        found = run_json("track", "*.x", "--preset", "transformers", "--preset", "keras", "--stage")
        assert found["added"] == ["*.x", "*.bin", "*.pth", "*.h5", "*.msgpack", "*.keras", "*.hdf5"]
        assert at.git("diff", "--name-only") == ""
        assert "*.keras" in at.git("diff", "--cached", "--", ".gitattributes")
        assert run_json("track", "--preset", "keras")["added"] == []
        run_json("track", "--preset", "peft")
        assert at.git("check-attr", "merge", "a/adapter_config.json").endswith("merge: theta")
        assert at.git("check-attr", "filter", "a/adapter_config.json").endswith("unspecified")

    def test_a_format_can_be_named_and_changed(self, at, run_json):
        run_json("track", "*.x", "--format", "opaque")
        assert at.git("check-attr", "theta-format", "a.x").endswith(": opaque")
        assert run_json("track", "*.x", "--format", "npz")["added"] == ["*.x"]
        assert run_json("track", "*.x", "--format", "npz")["added"] == []
        assert run_json("track", "*.x")["added"] == []
        assert at.git("check-attr", "theta-format", "a.x").endswith(": npz")
        before = at.read(".gitattributes")
        assert main(["track", "*.y", "--format", "nosuch"]) == 12
        assert main(["track", "--format", "npz"]) == 2
        assert at.read(".gitattributes") == before

    def test_files_that_git_has_already_are_listed_with_what_to_do(self, at, run_json, capsys):
        for name in ("a model.x", "b.x", "c.other"):
            at.write(b"content", name)
        at.git("add", ".")
        capsys.readouterr()
        assert main(["track", "*.x"]) == 0
        err = capsys.readouterr().err
        assert "git stores 2 files itself that are tracked now: a model.x, b.x; git theta migrate" in err
        assert "hint: git theta add 'a model.x' b.x && git commit" in err
        assert main(["add", "a model.x", "b.x"]) == 0
        assert run_json("track", "*.x")["in_git"] == []

    def test_untracking_something_else_changes_nothing(self, at, capsys):
        before = at.read(".gitattributes")
        assert main(["untrack", "*.pt", "*.other"]) == 2
        assert "'*.other' is not tracked" in capsys.readouterr().err
        assert at.read(".gitattributes") == before

    def test_a_filter_that_git_does_not_know_is_warned_of(self, at, capsys):
        at.git("theta", "uninstall", "--local")
        assert main(["track", "*.bin"]) == 0
        assert "hint: git theta install" in capsys.readouterr().err


class TestFsck:
    def test_a_sound_repository_has_no_problems(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        assert run_json("fsck", "--full") == {"manifests": 2, "problems": [], "unasked": []}

    def test_lost_and_damaged_packs_are_reported_by_exit_code(self, two, run_json, monkeypatch):
        monkeypatch.chdir(two.path)
        first, *_, last = sorted((two.path / ".git/theta/packs").glob("*/*"))
        saved = last.read_bytes()
        last.chmod(0o644)
        last.write_bytes(saved[:-1] + bytes([saved[-1] ^ 1]))
        assert {p["kind"] for p in run_json("fsck", code=6)["problems"]} == {"corrupt"}
        last.write_bytes(saved)
        first.unlink()
        problems = run_json("fsck", code=7)["problems"]
        assert {p["kind"] for p in problems} == {"missing"}
        assert all(MODEL in p["where"] for p in problems)

    def test_a_raw_checkpoint_and_a_missing_filter_are_reported(self, at, run_json):
        at.write_model()
        at.git("theta", "uninstall", "--local")
        at.git("add", MODEL)
        at.git("commit", "-qm", "raw")
        kinds = {p["kind"]: p["where"] for p in run_json("fsck", code=6)["problems"]}
        assert kinds == {"config": "filter.theta.process", "raw": f"HEAD:{MODEL}"}


class TestResolve:
    @pytest.fixture
    def conflicted(self, with_history, monkeypatch):
        repo = with_history(conflict)
        monkeypatch.chdir(repo.path)
        return repo

    def test_without_a_method_it_lists_and_changes_nothing(self, conflicted, run_json):
        before = conflicted.read()
        (found,) = run_json("resolve", MODEL, code=1)["checkpoints"]
        assert [conflict["name"] for conflict in found["conflicts"]] == [ATTENTION[1], ATTENTION[2]]
        assert conflicted.read() == before

    def test_settles_one_by_one_and_stages_the_checkpoint_at_the_end(self, conflicted, run_json):
        (found,) = run_json("resolve", "--method", "theirs", MODEL, ATTENTION[1], code=1)["checkpoints"]
        assert [conflict["name"] for conflict in found["conflicts"]] == [ATTENTION[2]]
        assert conflicted.git("ls-files", "-u") != ""
        assert run_json("resolve", "--method", "ours", MODEL)["checkpoints"][0]["conflicts"] == []
        merged = model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 9})
        assert conflicted.read() == merged
        assert conflicted.git("ls-files", "-u") == ""
        assert conflicted.cleans("status") == 0
        conflicted.git("commit", "-q", "--no-edit")
        assert conflicted.problems(MODEL, merged) == []

    def test_a_checkpoint_without_conflicts_is_refused(self, two, monkeypatch, capsys):
        monkeypatch.chdir(two.path)
        assert main(["resolve", MODEL]) == 2
        assert "has no conflicts" in capsys.readouterr().err

    @pytest.mark.parametrize("words", [["."], []])
    def test_that_nothing_has_conflicts_is_an_error(self, two, monkeypatch, capsys, words):
        monkeypatch.chdir(two.path)
        assert main(["resolve", *words]) == 2
        assert re.search("no checkpoint .*has conflicts", capsys.readouterr().err)


class TestInstall:
    def test_says_what_it_changed_and_then_nothing(self, at, run_json):
        at.git("theta", "uninstall", "--local")
        changes = run_json("install", "--local")["changes"]
        assert {change["what"] for change in changes} == {"set", "wrote"}
        assert run_json("install", "--local") == {"changes": []}
        assert {change["what"] for change in run_json("uninstall", "--local")["changes"]} == {"unset", "removed"}

    def test_shows_the_last_command_of_each_script_and_other_values_as_they_are(self, at, run_json, capsys):
        at.git("theta", "uninstall", "--local")
        assert main(["install", "--local"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "set filter.theta.process (local) = ...; exec git-theta filter-process" in lines
        assert "set filter.theta.required (local) = true" in lines
        at.git("theta", "uninstall", "--local")
        values = {change["where"]: change["value"] for change in run_json("install", "--local")["changes"]}
        assert values["filter.theta.process (local)"] == at.git("config", "filter.theta.process")

    def test_ends_with_the_next_step_if_it_changed_anything(self, at, capsys):
        at.git("theta", "uninstall", "--local")
        for last in ("next, in a repository: git theta track '*.safetensors'", "already installed"):
            assert main(["install", "--local"]) == 0
            assert capsys.readouterr().out.splitlines()[-1] == last

    @pytest.mark.parametrize("environment", ["/venv", None])
    def test_says_that_commands_need_an_active_environment(self, at, capsys, monkeypatch, environment):
        monkeypatch.setattr("git_theta_ext.cli.commands.install.needed_environment", lambda: environment)
        at.git("theta", "uninstall", "--local")
        assert main(["install", "--local"]) == 0
        assert ("/venv must be active" in capsys.readouterr().err) == (environment is not None)

    def test_a_foreign_hook_gets_a_warning_with_the_line_to_add(self, at, capsys):
        at.git("theta", "uninstall", "--local")
        at.write(b"#!/bin/sh\n", ".git/hooks/pre-push")
        assert main(["install", "--local"]) == 0
        assert 'git theta hook pre-push "$@"' in capsys.readouterr().err


def test_env_tells_versions_and_masks_secrets(at, run_json):
    at.git("config", "theta.remote.origin.url", "s3://user:pw@bucket")
    found = run_json("env")
    assert {"git", "python", "torch", "blake3"} <= set(found["versions"])
    assert found["repository"]["settings"]["theta.remote.origin.url"] == "s3://***@bucket"


def test_env_works_outside_of_a_repository(run_json, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_json("env")["repository"] is None


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["ls-files", "nothing"], "nothing", "git log --oneline --all"),
        (["show", "HEAD:nothing"], "HEAD:nothing", "git theta ls-files HEAD"),
        (["add", "/"], "outside repository", "copy it"),
        (["resolve"], "no checkpoint has conflicts", "git theta status"),
    ],
)
def test_what_is_not_there_is_named_with_a_hint(words, message, hint, at, capsys):
    at.write_model()
    at.commit("one")
    assert main(words) in {2, 3}
    captured = capsys.readouterr().err
    assert message in captured
    assert f"hint: {hint}" in captured


def test_a_file_where_the_store_should_be_is_no_traceback(at, capsys):
    at.write_model()
    (at.path / ".git/theta").write_bytes(b"")
    assert main(["add", MODEL]) == 8
    assert ".git/theta" in capsys.readouterr().err


def test_checkout_names_what_was_deleted(at, capsys):
    at.write_model()
    at.commit("one")
    (at.path / MODEL).unlink()
    assert main(["checkout"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"hint: git theta checkout --force {MODEL}" in captured.err


def test_export_to_a_folder_says_so(at, capsys):
    at.write_model()
    at.commit("one")
    assert main(["export", "--force", f"HEAD:{MODEL}", "."]) == 2
    assert f"hint: git theta export HEAD:{MODEL} {MODEL}" in capsys.readouterr().err


def test_env_shows_what_a_tracked_file_says_and_what_does_not_count(at, run_json):
    at.write(b"[theta]\n\turl = s3://bucket/x\n\tthreads = 3\n", ".thetaconfig")
    settings = run_json("env")["repository"]["tracked_settings"]
    assert settings == {
        ".thetaconfig (work tree) theta.url": "s3://bucket/x",
        ".thetaconfig (work tree) theta.threads": "not allowed there",
    }
