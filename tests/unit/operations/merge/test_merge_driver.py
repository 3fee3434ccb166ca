import subprocess
import sys

import numpy as np
import pytest
from helpers import ATTENTION, EMBEDDING, MLP, MODEL, SPECS, Repo, model, safetensors, tensors, values

from git_theta_ext.cli.output import output_to_git
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.merge import computation
from git_theta_ext.operations.merge import driver as merge_driver
from git_theta_ext.operations.workspace import Workspace


def floats(data):
    return np.frombuffer(data, "<f4")


def mean(one, two):
    return (floats(one) + floats(two)) / 2


def branches(repo: Repo, base, ours, theirs, path=MODEL):
    """Commit three versions; HEAD is ``main`` at ours, and ``side`` at theirs."""
    if base is not None:
        repo.write(base, path)
        repo.commit("base")
    else:
        repo.git("commit", "--allow-empty", "-qm", "base")
    repo.switch("-b", "side")
    repo.write(theirs, path)
    repo.commit("theirs")
    repo.switch("main")
    repo.write(ours, path)
    repo.commit("ours")


def both(repo: Repo):
    """Commit a model of which two branches changed one tensor, and each another."""
    branches(repo, model(1), model(1, {EMBEDDING: 2, MLP[0]: 2}), model(1, {EMBEDDING: 3, MLP[1]: 3}))


def manifest_of(repo: Repo, rev: str) -> Manifest:
    return Manifest.parse(repo.git("cat-file", "blob", rev).encode() + b"\n")


def test_both_changed_tensors_are_averaged_and_others_taken(repo):
    base = model(1)
    branches(repo, base, model(1, {ATTENTION[0]: 2, MLP[0]: 2}), model(1, {ATTENTION[0]: 3, MLP[1]: 3}))
    done = repo.run("merge", "side", "-m", "merged")
    expected = tensors(1, {MLP[0]: 2, MLP[1]: 3})
    kind, shape, _ = expected[ATTENTION[0]]
    averaged = mean(values(ATTENTION[0], 2), values(ATTENTION[0], 3)).tobytes()
    expected[ATTENTION[0]] = (kind, shape, averaged)
    assert repo.problems(MODEL, safetensors(expected, {"format": "pt", "note": "kept to the byte"})) == []
    assert "2 taken, 1 merged by average" in done.stderr


@pytest.mark.parametrize(("method", "seed"), [("ours", 2), ("theirs", 3), ("base", 1)])
def test_the_configuration_chooses_the_method(repo, method, seed):
    branches(repo, model(1), model(2), model(3))
    repo.git("-c", f"theta.merge.method={method}", "merge", "side", "-m", "merged")
    assert repo.problems(MODEL, model(seed)) == []


def test_the_environment_beats_the_configuration(repo, monkeypatch):
    branches(repo, model(1), model(2), model(3))
    monkeypatch.setenv("GIT_THETA_MERGE", "theirs")
    repo.git("-c", "theta.merge.method=ours", "merge", "side", "-m", "merged")
    assert repo.problems(MODEL, model(3)) == []


def test_integers_that_both_changed_end_as_a_conflict_with_a_valid_manifest(repo):
    branches(repo, model(1), model(2), model(3))
    done = repo.run("merge", "side", check=False)
    assert done.returncode == 1
    assert f"git theta resolve {MODEL}" in done.stderr
    left = Manifest.parse(repo.read())
    assert [conflict.name for conflict in left.conflicts] == ["position_ids"]
    assert len(left.parameters) == len(SPECS)
    assert {line.split()[2] for line in repo.git("ls-files", "-u").splitlines()} == {"1", "2", "3"}


def test_conflict_as_method_leaves_everything_to_the_user(repo):
    branches(repo, model(1), model(1, {EMBEDDING: 2}), model(1, {EMBEDDING: 3}))
    assert repo.run("-c", "theta.merge.method=conflict", "merge", "side", check=False).returncode == 1
    (conflict,) = Manifest.parse(repo.read()).conflicts
    base, ours, theirs = (
        manifest_of(repo, f"{rev}:{MODEL}").parameters[EMBEDDING] for rev in ("main~", "main", "side")
    )
    assert (conflict.base, *conflict.sides) == (base, ours, theirs)


def test_a_file_added_on_both_sides_has_no_base(repo):
    branches(repo, None, model(1, {EMBEDDING: 2}), model(1, {EMBEDDING: 3}))
    assert repo.run("merge", "side", check=False).returncode == 1
    (conflict,) = Manifest.parse(repo.read()).conflicts
    assert (conflict.name, conflict.base) == (EMBEDDING, None)


def test_parameters_added_on_both_sides_are_both_in_the_file(repo):
    def grown(name):
        return safetensors(tensors(1) | {name: ("F32", (2,), floats(np.float32([1, 2]).tobytes()).tobytes())})

    branches(repo, safetensors(tensors(1)), grown("adapter.a"), grown("adapter.b"))
    repo.git("merge", "side", "-m", "merged")
    merged = manifest_of(repo, f"HEAD:{MODEL}")
    assert {"adapter.a", "adapter.b"} < set(merged.parameters)
    assert repo.problems(MODEL, repo.read()) == []
    repo.git("theta", "fsck")


def test_an_unknown_method_keeps_ours_and_names_it(repo):
    branches(repo, model(1), model(1, {EMBEDDING: 2}), model(1, {EMBEDDING: 3}))
    done = repo.run("-c", "theta.merge.method=no-such", "merge", "side", check=False)
    assert done.returncode == 1
    assert "no-such" in done.stderr
    assert repo.read() == model(1, {EMBEDDING: 2})


def test_a_merge_that_takes_every_value_imports_neither_a_store_nor_what_computes(repo):
    def manifest(a, b):
        spec = TensorSpec.of("F32", (2,))
        parameters = {"a": Parameter(spec, 64 * a), "b": Parameter(spec, 64 * b)}
        return Manifest("safetensors", Skeleton(64 * "0", 9), parameters)

    for name, digits in {"O": "11", "A": "21", "B": "12"}.items():
        repo.write(manifest(*digits).to_bytes(), name)
    code = (
        "import sys; from git_theta_ext.cli.main import main\n"
        "print(main(['merge-driver', 'O', 'A', 'B', '7', 'path']), *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo.path, capture_output=True, check=True, text=True)
    code, *modules = done.stdout.split()
    assert code == "0"
    assert repo.read("A") == manifest("2", "2").to_bytes()
    ours = {".".join(name.split(".")[1:3]) for name in modules if name.startswith("git_theta_ext.")}
    assert not {name for name in ours if name.split(".")[0] in {"store", "checkpoint", "transfer", "update"}}
    assert not ours & {f"merging.{name}" for name in ("apply", "execution", "devices", "thresholds", "reporting")}
    assert not {"numpy", "torch", "sqlite3", "concurrent", "difflib", "random", "logging"} & set(modules)


class TestByHand:
    """The driver as a function, with files as git gives them."""

    @pytest.fixture
    def sides(self, with_history, monkeypatch):
        repo = with_history(both)
        monkeypatch.chdir(repo.path)
        for name, rev in (("O", "main~"), ("A", "main"), ("B", "side")):
            repo.write(manifest_of(repo, f"{rev}:{MODEL}").to_bytes(), name)
        monkeypatch.setenv(f"GITHEAD_{repo.git('rev-parse', 'side')}", "side")
        return repo

    def run(self, size="7"):
        with Workspace.discover(output_to_git()) as workspace:
            return merge_driver.run(("O", "A", "B", size, MODEL), workspace)

    @pytest.mark.parametrize("size", ["9", "10", "11"])
    def test_ancestors_that_git_makes_itself_are_never_computed(self, sides, monkeypatch, capsys, size):
        def refuse(*_):
            raise AssertionError("a method was looked up for an ancestor")

        ours, theirs = Manifest.parse(sides.read("A")), Manifest.parse(sides.read("B"))
        monkeypatch.setattr("git_theta_ext.merging.planning.plan.find_merge", refuse)
        monkeypatch.setenv("GIT_THETA_MERGE", "conflict")
        assert self.run(size) == 0
        merged = Manifest.parse(sides.read("A"))
        assert merged.parameters[EMBEDDING] == ours.parameters[EMBEDDING]
        assert merged.parameters[MLP[1]] == theirs.parameters[MLP[1]]
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(("size", "usual"), [("8", ""), ("32", "32"), ("33", "32"), ("7", "0"), ("7", "none")])
    def test_what_both_sides_renamed_and_files_with_markers_of_another_length_are_merged(self, sides, size, usual):
        if usual:
            sides.write(f"*.safetensors merge=theta conflict-marker-size={usual}\n".encode(), ".gitattributes")
        ours = Manifest.parse(sides.read("A"))
        assert self.run(size) == 0
        assert Manifest.parse(sides.read("A")).parameters[EMBEDDING] != ours.parameters[EMBEDDING]

    @pytest.mark.parametrize("side", ["O", "A", "B"])
    def test_a_side_from_before_tracking_is_a_conflict_that_leaves_ours(self, sides, capsys, side):
        sides.write(model(1), side)
        kept = sides.read("A")
        assert self.run() == 1
        assert sides.read("A") == kept
        assert "not a manifest" in capsys.readouterr().err

    def test_a_side_with_conflicts_in_it_is_refused(self, sides, capsys, monkeypatch):
        monkeypatch.setenv("GIT_THETA_MERGE", "conflict")
        assert self.run() == 1
        assert Manifest.parse(sides.read("A")).conflicted
        kept = sides.read("A")
        capsys.readouterr()
        assert self.run() == 1
        assert sides.read("A") == kept
        assert "committed with conflicts" in capsys.readouterr().err

    def test_values_that_no_remote_has_end_as_a_conflict_of_just_that_parameter(self, sides, capsys):
        for pack in (sides.path / ".git/theta/packs").rglob("*"):
            if pack.is_file():
                pack.unlink()
        assert self.run() == 1
        merged = Manifest.parse(sides.read("A"))
        assert [conflict.name for conflict in merged.conflicts] == [EMBEDDING]
        assert "1 conflict" in capsys.readouterr().err

    def test_a_full_disk_stops_the_merge(self, sides, monkeypatch, capsys):
        from git_theta_ext.errors import StoreError

        def full(*_, **__):
            raise StoreError("cannot write: No space left on device", hint="free some space")

        monkeypatch.setattr("git_theta_ext.store.store.Store.begin_put", full)
        kept = sides.read("A")
        assert self.run() == 129
        assert sides.read("A") == kept
        assert "No space left" in capsys.readouterr().err

    def test_what_is_being_computed_is_in_conflict_meanwhile(self, sides, monkeypatch):
        seen = []
        compute = computation.engine

        def watched(*args):
            seen.append(Manifest.parse(sides.read("A")))
            return compute(*args)

        monkeypatch.setattr(computation, "engine", watched)
        assert self.run() == 0
        assert [conflict.name for conflict in seen[0].conflicts] == [EMBEDDING]
        assert seen[0].parameters[MLP[1]] == Manifest.parse(sides.read("B")).parameters[MLP[1]]
        assert not Manifest.parse(sides.read("A")).conflicted

    def test_without_a_sign_of_what_git_does_what_both_changed_is_in_conflict(self, sides, monkeypatch, capsys):
        monkeypatch.delenv(f"GITHEAD_{sides.git('rev-parse', 'side')}")
        assert self.run() == 1
        merged = Manifest.parse(sides.read("A"))
        assert [conflict.name for conflict in merged.conflicts] == [EMBEDDING]
        assert "may be a merge or the replay of a change" in capsys.readouterr().err
        monkeypatch.setenv("GIT_THETA_MERGE", "theirs")
        for name, rev in (("O", "main~"), ("A", "main"), ("B", "side")):
            sides.write(manifest_of(sides, f"{rev}:{MODEL}").to_bytes(), name)
        assert self.run() == 0

    def test_nothing_is_left_beside_the_result(self, sides):
        before = sorted(path.name for path in sides.path.iterdir())
        assert self.run() == 0
        assert sorted(path.name for path in sides.path.iterdir()) == before
