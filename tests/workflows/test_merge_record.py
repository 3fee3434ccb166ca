"""Merge commits say how models were merged, and ``git theta merge --replay`` makes the same bits again."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, WithHistory, model
from reports import Reports

from git_theta_ext.git.repository import Repository
from git_theta_ext.operations.merge.record import recorded_rules, records_of
from git_theta_ext.operations.workspace import Workspace

TRAILERS = "--format=%(trailers:key=Theta-Merge,valueonly,unfold)"


def trailers(repo: Repo, rev: str = "HEAD") -> list[str]:
    return [line for line in repo.git("log", "-1", TRAILERS, rev).splitlines() if line]


def records(repo: Repo, rev: str = "HEAD") -> list[dict[str, object]]:
    """Return what the trailers of a commit and its parents say of how models were merged."""
    found = [json.loads(record.to_json()) for record in records_of(Repository.discover(repo.path), rev)]
    assert len(found) == len(trailers(repo, rev))
    return found


UNHOOKED = ("-c", f"core.hooksPath={os.devnull}")


def reworded(repo: Repo, old: str, new: str) -> None:
    """Replace something in the message of the current commit."""
    message = repo.git("log", "-1", "--format=%B")
    assert old in message
    repo.git(*UNHOOKED, "commit", "--quiet", "--amend", "--message", message.replace(old, new))


def in_full(repo: Repo) -> None:
    """Write the record of the current commit as JSON, as it is if the parents do not have everything in it."""
    (record,) = records_of(Repository.discover(repo.path), "HEAD")
    reworded(repo, trailers(repo)[0], record.to_json())


def branch(repo: Repo, name: str, changed: dict[str, int], start: str = "base") -> None:
    repo.switch("-B", name, start)
    repo.write_model(seed=1, changed=changed)
    repo.commit(name)


def _three(repo: Repo) -> None:
    repo.write_model(seed=1)
    repo.commit("base")
    repo.git("tag", "base")
    branch(repo, "a", {EMBEDDING: 3, ATTENTION[1]: 3})
    branch(repo, "b", {EMBEDDING: 4, ATTENTION[2]: 4})
    branch(repo, "main", {EMBEDDING: 2, ATTENTION[0]: 2})


@pytest.fixture
def three(with_history: WithHistory) -> Repo:
    """Return a repository whose ``main``, ``a`` and ``b`` changed the embedding, each in its way."""
    return with_history(_three)


def _merged(repo: Repo) -> None:
    _three(repo)
    repo.git("merge", "--quiet", "a")


@pytest.fixture
def merged(with_history: WithHistory) -> Repo:
    """Return a repository as ``three`` whose ``main`` has the mean of ``main`` and ``a``."""
    return with_history(_merged)


TAKE = ("-c", "theta.merge.method=theirs")
"""For merges in which something is decided and nothing computed."""
TAKE_SECOND = ("-s", "theta", "-X", "method=theirs2")


def test_a_merge_commit_says_what_was_merged_how_and_by_which_version(three: Repo) -> None:
    three.git("-c", "theta.merge.method=ties", "-c", "theta.merge.options=density=0.5", "merge", "--quiet", "a")
    (record,) = records(three)
    assert record["path"] == MODEL
    assert record["base"] == three.git("rev-parse", f"base:{MODEL}")
    assert record["sides"] == [three.git("rev-parse", f"{rev}:{MODEL}") for rev in ("HEAD^1", "a")]
    assert record["commits"] == [three.git("rev-parse", rev) for rev in ("HEAD^1", "a")]
    assert record["rules"]["method"] == "ties"
    assert record["rules"]["with"] == {
        "density": 0.5,
        "lambda": 1.0,
        "majority": "mass",
        "scope": "model",
        "ties": "original",
    }
    assert record["versions"] == {"ties": 1}
    assert three.git("log", "-1", "--format=%s") == "Merge branch 'a'"


@pytest.mark.parametrize("branches", [["a"], ["-s", "theta", "a"], ["-s", "theta", "a", "b"]], ids=" ".join)
def test_the_shell_adds_the_same_records_as_python(three: Repo, tmp_path: Path, branches: list[str]) -> None:
    hook, start, found = three.path / ".git/hooks/prepare-commit-msg", three.git("rev-parse", "HEAD"), []
    former = (Path(__file__).parents[1] / "golden/hooks/prepare-commit-msg-3").read_bytes()
    for script in (former + b"# not one that is replaced\n", hook.read_bytes()):
        hook.write_bytes(script)
        three.git("reset", "--quiet", "--hard", start)
        trace = tmp_path / str(len(found))
        words = ("-c", "theta.merge.method=ties", "merge", "-m", "text", *branches)
        three.run(*words, env=os.environ | {"GIT_TRACE": str(trace)})
        found.append((three.git("log", "-1", "--format=%B"), "hook prepare-commit-msg" in trace.read_text()))
    assert "Theta-Merge" in found[0][0]
    assert found == [(found[0][0], True), (found[0][0], False)]


def test_a_merge_in_which_no_rule_mattered_says_nothing(forked: Repo) -> None:
    forked.git("merge", "--quiet", "side")
    assert records(forked) == []
    done = forked.run("theta", "merge", "--replay", "HEAD", check=False)
    assert done.returncode == 10
    assert "does not record how models were merged" in done.stderr


def test_other_commits_are_left_alone(merged: Repo) -> None:
    merged.write(b"text", "notes.txt")
    merged.commit("not a merge")
    assert records(merged) == []
    assert not (merged.path / ".git/theta/merge.json").exists(), "what is committed is forgotten with the next commit"


def test_replay_makes_the_same_bits(repo: Repo) -> None:
    methods = ["average", "ties, with: {density: 0.3}", "dare, with: {seed: 5}", "slerp, with: {t: 0.3}", "theirs"]
    names = [EMBEDDING, *ATTENTION]
    rules = "".join(f"- {{match: {name}, method: {method}}}\n" for name, method in zip(names, methods, strict=True))
    repo.write(f"version: 1\nrules:\n{rules}".encode(), ".thetamerge")
    repo.write_model(seed=1)
    repo.commit("base")
    repo.git("tag", "base")
    branch(repo, "a", dict.fromkeys(names, 3))
    branch(repo, "main", dict.fromkeys(names, 2))
    repo.git("merge", "--quiet", "a")
    (record,) = records(repo)
    assert record["versions"] == {"average": 1, "dare": 1, "slerp": 1, "ties": 1}
    replays = json.loads(repo.git("theta", "merge", "--json", "--replay", "HEAD"))["replays"]
    assert [(each["path"], each["differing"]) for each in replays] == [(MODEL, [])]


def test_replay_of_several_branches(three: Repo) -> None:
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=dare", "-X", "seed=7", "a", "b")
    (record,) = records(three)
    assert record["rules"]["with"]["seed"] == 7
    assert len(record["sides"]) == 3
    assert f"{MODEL}: 1 parameter" in three.git("theta", "merge", "--replay")


def test_rules_of_the_file_and_resolutions_are_recorded_in_their_order(three: Repo) -> None:
    rules = f"version: 1\nrules: [{{match: {EMBEDDING}, method: conflict}}]\n"
    three.write(rules.encode(), ".thetamerge")
    three.commit("rules")
    assert three.run("merge", "a", check=False).returncode == 1
    three.git("theta", "resolve", "--method", "ties", "--option", "density=0.4", MODEL, "embeddings.*")
    three.git("commit", "--quiet", "--no-edit")
    (record,) = records(three)
    (step,) = record["resolved"]
    assert (step["method"], step["with"]["density"], step["parameters"]) == ("ties", 0.4, ["embeddings.*"])
    assert record["versions"] == {"ties": 1}
    three.git("theta", "merge", "--replay", "HEAD")


def test_a_version_that_was_chosen_by_hand_is_not_said_to_be_merged(three: Repo) -> None:
    three.git(*TAKE, "merge", "--quiet", "--no-commit", "a")
    three.write_model(seed=9)
    three.git("add", MODEL)
    three.git("commit", "--quiet", "--no-edit")
    assert records(three) == []


def test_a_merge_that_was_given_up_leaves_no_trace_in_the_next(three: Repo) -> None:
    three.git(*TAKE, "merge", "--quiet", "--no-commit", "a")
    three.git("merge", "--abort")
    three.git("merge", "--quiet", "-s", "ours", "a")
    assert records(three) == []
    three.git("reset", "--quiet", "--hard", "HEAD^1")
    three.git("-c", "theta.merge.method=base", "merge", "--quiet", "b")
    assert [record["rules"]["method"] for record in records(three)] == ["base"]


def test_replay_makes_a_common_ancestor_of_gits_own_again(three: Repo) -> None:
    three.switch("-b", "left", "a")
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=ours", "b")
    three.switch("-b", "right", "b")
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=theirs", "a")
    for number, name in enumerate(("left", "right")):
        three.switch(name)
        three.write_model(seed=1, changed={EMBEDDING: 3, ATTENTION[1]: 3, ATTENTION[2]: 4} | {ATTENTION[3]: 7 + number})
        three.commit("goes on")
    three.git("merge", "--quiet", "left")
    three.git("reflog", "expire", "--expire=now", "--all")
    three.git("gc", "--quiet", "--prune=now")
    three.git("theta", "merge", "--replay", "HEAD")


def test_replay_tells_what_differs(merged: Repo) -> None:
    in_full(merged)
    reworded(merged, '"method":"average"', '"method":"sum"')
    reworded(merged, '"versions":{"average":1}', '"versions":{"sum":1}')
    done = merged.run("theta", "merge", "--replay", check=False)
    assert done.returncode == 10
    assert EMBEDDING in done.stderr


@pytest.mark.parametrize(
    ("settings", "words", "subject"),
    [
        ([], ["--no-ff", "--signoff", "-m", "Subject\n\nBody"], "Subject"),
        ([], ["--log"], "Merge branch 'a'"),
        ([], ["-m", "Subject\n\nReviewed-by: Somebody <x@example.com>"], "Subject"),
        (["commit.verbose=true"], ["--edit"], "Merge branch 'a'"),
        (["commit.cleanup=scissors"], ["--edit"], "Merge branch 'a'"),
        (["commit.cleanup=verbatim"], [], "Merge branch 'a'"),
        (["core.commentChar=;"], ["--edit"], "Merge branch 'a'"),
        (["core.commentChar=auto"], ["--edit"], "Merge branch 'a'"),
        (["trailer.ifexists=replace", "trailer.separators==:"], [], "Merge branch 'a'"),
    ],
    ids=lambda value: " ".join(value) or "-" if isinstance(value, list) else "",
)
@pytest.mark.parametrize("stopped", [False, True], ids=["at once", "after a conflict"])
def test_the_trailer_stands_behind_whatever_message_git_makes(
    three: Repo, settings: list[str], words: list[str], subject: str, stopped: bool
) -> None:
    for setting in settings:
        three.git("config", *setting.split("=", 1))
    edited = os.environ | {"GIT_EDITOR": "sed -i 1s/branch/topic/"}
    if stopped:
        assert three.run("-c", "theta.merge.method=conflict", "merge", *words, "a", check=False).returncode == 1
        three.git("theta", "resolve", "--method", "theirs", MODEL)
        three.git("commit", "--quiet", *(["--verbose"] if "commit.verbose=true" in settings else []), env=edited)
    else:
        three.git(*TAKE, "merge", "--quiet", *words, "a", env=edited)
    shown = three.git("log", "-1", "--format=%B")
    assert shown.splitlines()[0] == (subject.replace("branch", "topic") if stopped or "--edit" in words else subject)
    assert len(records(three)) == 1
    assert ("Reviewed-by: " in shown) == ("Reviewed-by: " in " ".join(words))
    # Git signs off itself only a merge that does not stop.
    assert ("Signed-off-by: " in shown) == ("--signoff" in words and not stopped)
    assert "diff --git" not in shown
    three.git("theta", "merge", "--replay")


def test_a_merge_that_was_ended_without_a_commit_says_nothing_in_the_next(three: Repo) -> None:
    three.run("-c", "theta.merge.method=conflict", "merge", "a", check=False)
    three.git("merge", "--quit")
    three.git("theta", "resolve", "--method", "theirs", MODEL)
    three.git("commit", "--quiet", "--message", "not a merge")
    assert records(three) == []


def test_a_record_goes_where_it_is_not_true_and_stays_where_it_is(three: Repo) -> None:
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=theirs", "a")
    merge = three.git("rev-parse", "HEAD")
    three.write(b"text", "notes.txt")
    three.git("add", "notes.txt")
    three.git("commit", "--quiet", "--amend", "--no-edit")
    assert len(records(three)) == 1, "the model and the parents are the same"
    three.git("theta", "merge", "--replay")
    three.git("commit", "--quiet", "--allow-empty", "--reuse-message", "HEAD")
    assert records(three) == [], "this is no merge"
    three.git("reset", "--quiet", "--hard", merge)
    three.write_model(seed=1, changed={EMBEDDING: 8})
    three.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    assert records(three) == [], "the model is another"
    assert three.git("log", "-1", "--format=%B") == "Merge branch 'a'"

    three.switch("-B", "picked", "b")
    three.git("cherry-pick", "-m", "1", merge)
    assert records(three) == []
    three.git("reset", "--quiet", "--hard", "b")
    three.git(*UNHOOKED, "cherry-pick", "-m", "1", merge)
    for words in (["--replay"], ["--report"]):
        done = three.run("theta", "merge", *words, check=False)
        assert done.returncode == 10
        assert "a copy of another merge's record" in done.stderr
    three.git("commit", "--quiet", "--amend", "--no-edit")
    assert records(three) == [], "as the hint says"


@pytest.mark.parametrize("branches", [["a"], ["a", "b"]], ids=" and ".join)
def test_a_merge_that_a_rebase_makes_again_is_made_by_the_same_method_and_says_so(
    three: Repo, branches: list[str]
) -> None:
    method, seed = ("theirs", 3) if len(branches) == 1 else ("base", 1)
    three.git("merge", "--quiet", "-s", "theta", "-X", f"method={method}", *branches)
    branch(three, "upstream", {ATTENTION[3]: 9})
    three.switch("main")
    three.git("rebase", "--quiet", "--rebase-merges", *(["-s", "theta"] if "b" in branches else []), "upstream")
    changed = {EMBEDDING: seed, ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[3]: 9}
    assert three.problems(MODEL, model(1, changed | ({ATTENTION[2]: 4} if "b" in branches else {}))) == []
    record = records(three)[-1]
    assert record["rules"]["method"] == method
    assert record["commits"] == three.git("log", "-1", "--format=%P").split()
    assert len(record["commits"]) == 1 + len(branches)
    three.git("theta", "merge", "--replay")


def test_a_squashed_branch_has_no_record_of_the_merges_in_it(merged: Repo) -> None:
    merged.switch("b")
    merged.git(*TAKE, "merge", "--quiet", "--squash", "main")
    merged.git("commit", "--quiet", "--no-edit")
    assert "Theta-Merge: " in merged.git("log", "-1", "--format=%B"), "quoted, with the messages of the commits"
    assert trailers(merged) == []
    done = merged.run("theta", "merge", "--replay", check=False)
    assert "does not record how models were merged" in done.stderr


@pytest.mark.parametrize("branches", [["a"], ["a", "b"]], ids=" and ".join)
def test_a_resolution_that_a_rebase_needs_again_is_the_hint(three: Repo, branches: list[str]) -> None:
    strategy = ["-s", "theta"] if "b" in branches else []
    three.run("-c", "theta.merge.method=conflict", "merge", *strategy, *branches, check=False)
    words = ["--method", "task_arithmetic", "--option", "lambda=0.5", MODEL, EMBEDDING]
    three.git("theta", "resolve", *words)
    three.git("commit", "--quiet", "--no-edit")
    before = records(three)[0]["resolved"]
    branch(three, "upstream", {ATTENTION[3]: 9})
    three.switch("main")
    done = three.run("rebase", "--quiet", "--rebase-merges", *strategy, "upstream", check=False)
    assert done.returncode == 1
    command = f"git theta resolve {shlex.join(words)}"
    assert f"git-theta: hint: {command}\n" in done.stderr
    three.git(*shlex.split(command)[1:])
    three.git("-c", "core.editor=true", "rebase", "--continue")
    assert records(three)[0]["resolved"] == before
    three.git("theta", "merge", "--replay")


def test_a_record_that_cannot_be_read_is_reported_before_the_current_rules_are_used(merged: Repo) -> None:
    in_full(merged)
    reworded(merged, '"rules":{', '"rules":[{')
    with Workspace.discover(reports := Reports(), merged.path) as workspace:
        assert recorded_rules(workspace, merged.git("rev-parse", "HEAD"), MODEL) is None
    assert f"{MODEL}: cannot read how merge" in reports.lines[0]


@pytest.mark.parametrize("form", ["short", "json"])
def test_history_that_is_rewritten_with_the_same_models_keeps_its_records(merged: Repo, form: str) -> None:
    if form == "json":
        in_full(merged)
    stream = merged.git("fast-export", "main").replace("committer ", "committer Renamed ")
    merged.git("fast-import", "--quiet", "--force", input=stream + "\n")
    merged.switch("--detach", "main")
    assert merged.git("rev-parse", "HEAD^2") != merged.git("rev-parse", "a")
    merged.git("update-ref", "-d", "refs/heads/a")
    merged.git("theta", "merge", "--replay")
    (record,) = records_of(Repository.discover(merged.path), "HEAD")
    assert list(record.commits) == merged.git("log", "-1", "--format=%P").split()
    merged.git("commit", "--quiet", "--amend", "--no-edit", "--reset-author")
    assert len(trailers(merged)) == 1


def test_a_record_is_one_short_line_that_names_the_rules(three: Repo) -> None:
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=ties", "-X", "density=0.5", "a")
    (line,) = trailers(three)
    assert line.startswith(f"{MODEL} by ties density=0.5 ")
    assert len(line) < 160
    three.switch("-B", "ruled", "b")
    three.write(
        f"version: 1\nrules:\n- {{match: {EMBEDDING}, method: slerp, with: {{t: 0.3}}}}\n".encode(), ".thetamerge"
    )
    three.commit("rules")
    three.git("merge", "--quiet", "a")
    (line,) = trailers(three)
    assert line.startswith(f"{MODEL} by .thetamerge (git-theta ")
    assert records(three)[0]["rules"]["rules"][0]["with"] == {"t": 0.3}
    three.git("theta", "merge", "--replay")


@pytest.mark.parametrize("staged", [False, True])
def test_a_record_is_short_if_the_branches_contain_the_current_commit_and_git_keeps_it(
    three: Repo, *, staged: bool
) -> None:
    three.switch("-B", "start", "base")
    three.git("merge", "--quiet", "--no-ff", *(["--no-commit"] if staged else []), "-s", "theta", "a", "b")
    if staged:
        three.git("commit", "--quiet", "--no-edit")
    assert three.git("log", "-1", "--format=%P") == three.git("rev-parse", "base", "a", "b").replace("\n", " ")
    (line,) = trailers(three)
    assert line.startswith(f"{MODEL} by average ")
    assert records(three)[0]["commits"] == three.git("rev-parse", "base", "a", "b").split()
    three.git("theta", "merge", "--replay")


def test_a_record_is_whole_if_git_omits_a_commit_from_the_parents(three: Repo) -> None:
    three.switch("-B", "start", "base")
    three.git("merge", "--quiet", *TAKE_SECOND, "a", "b")
    assert three.git("log", "-1", "--format=%P") == three.git("rev-parse", "a", "b").replace("\n", " ")
    (line,) = trailers(three)
    assert json.loads(line)["commits"] == three.git("rev-parse", "base", "a", "b").split()
    three.git("theta", "merge", "--replay")


def test_a_record_is_whole_if_the_commits_do_not_have_its_rules(three: Repo) -> None:
    three.write(f"version: 1\nrules: [{{match: {EMBEDDING}, method: slerp}}]\n".encode(), ".thetamerge")
    three.git("merge", "--quiet", "a")
    (line,) = trailers(three)
    assert json.loads(line)["rules"]["rules"][0]["method"] == "slerp"
    (three.path / ".thetamerge").unlink()
    three.git("theta", "merge", "--replay")


def test_commits_that_are_replayed_are_no_merges_and_say_nothing(three: Repo) -> None:
    three.git("cherry-pick", "a")
    assert records(three) == []
    three.git("revert", "--no-edit", "HEAD~1")
    assert records(three) == []
    three.switch("b")
    three.git("rebase", "--quiet", "a")
    assert records(three) == []
    assert not (three.path / ".git/theta/merge.json").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"versions":{"average":1}', '"versions":{"average":2}', "version 2 of 'average'"),
        ('"sides":["', '"sides":["0', "is not an object id"),
        ('"rules":{', '"rules":[{', "not a valid record of a merge"),
        ('"method":"average"', '"method":"avarage"', "avarage"),
        (f'"path":"{MODEL}"', '"path":"other"', "records a merge of other but has no such checkpoint"),
        ("(git-theta 0.1.0, average 1,", "(git-theta 0.1.0, average 2,", "version 2 of 'average'"),
        (" by average", " by avarage", "avarage"),
        (" by average", " by sum", "a copy of another merge's record"),
        (f"{MODEL} by", "other by", "a copy of another merge's record"),
        (", digest ", ", digest 0", "not a valid record of a merge"),
        (" by average (", " by average; theirs (", "not a valid record of a merge"),
    ],
)
def test_records_that_cannot_be_followed_are_named(merged: Repo, old: str, new: str, words: str) -> None:
    if old.startswith('"'):
        in_full(merged)
    reworded(merged, old, new)
    done = merged.run("theta", "merge", "--replay", check=False)
    assert done.returncode in {10, 12}
    assert words in done.stderr


def test_a_clone_replays_what_it_fetched(merged: Repo, shared: Repo, tmp_path: Path) -> None:
    merged.git("push", "--quiet", "origin", "main", "a")
    merged.git("clone", "--quiet", str(shared.path), str(tmp_path / "clone"))
    Repo(tmp_path / "clone").git("theta", "merge", "--replay", "HEAD")


def test_the_hook_starts_no_python_where_nothing_was_merged(three: Repo, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git-theta").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    (tools / "git-theta").chmod(0o755)
    os.utime(three.path / MODEL, (1, 1))
    three.git("status")  # so that the file is older than the index, and git has no reason to look into it
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    three.git("commit", "--quiet", "--allow-empty", "--message", "empty", env=environment)
    assert not (tmp_path / "called").exists()


def test_a_commit_is_made_also_where_the_program_is_gone(three: Repo) -> None:
    three.git(*TAKE, "merge", "--quiet", "--no-commit", "a")
    hooks = three.path / ".git/hooks"
    script = (hooks / "prepare-commit-msg").read_text().replace("git-theta", "git-theta-that-is-gone")
    (hooks / "prepare-commit-msg").write_text(script)
    three.git("commit", "--quiet", "--no-edit")
    assert three.problems(MODEL, three.read()) == []
    assert records(three) == []


def test_a_linked_work_tree_has_its_own_record(three: Repo, tmp_path: Path) -> None:
    three.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "a")
    linked = Repo(tmp_path / "linked")
    linked.git(*TAKE, "merge", "--quiet", "b")
    assert len(records(linked)) == 1
    assert not (three.path / ".git/theta/merge.json").exists()


def test_plan_says_what_a_merge_would_do_and_changes_nothing(three: Repo) -> None:
    before = three.git("rev-parse", "HEAD"), three.read(), sorted(three.path.rglob(".git/theta/packs/*/*"))
    merged = json.loads(
        three.git("theta", "merge", "--json", "--plan", "-X", "method=ties", "-X", "density=0.1", "a", "b")
    )
    (plan,) = merged["plans"]
    rows = {row["name"]: row for row in plan["parameters"]}
    assert (plan["path"], plan["sides"], plan["conflicts"]) == (MODEL, 3, 0)
    assert rows[EMBEDDING]["action"] == "compute"
    assert rows[EMBEDDING]["options"]["density"] == 0.1
    assert rows[EMBEDDING]["reads"] == plan["reads"] == 4 * 256 * 64 * 4
    assert (rows[ATTENTION[1]]["action"], rows[ATTENTION[1]]["source"]) == ("take", "theirs1")
    assert rows[ATTENTION[3]]["state"] == "unchanged"
    assert (three.git("rev-parse", "HEAD"), three.read(), sorted(three.path.rglob(".git/theta/packs/*/*"))) == before


def test_a_plan_is_limited_to_files_and_directories(three: Repo) -> None:
    for path, planned in ((MODEL, True), (".", True), ("elsewhere", False)):
        shown = three.git("theta", "merge", "--plan", "-X", "method=ties", "a", "--", path)
        assert (MODEL in shown) is planned
    assert shown == "no checkpoint in elsewhere was changed on more than one side"


def test_a_merge_in_progress_has_no_record_yet(three: Repo) -> None:
    assert three.run("-c", "theta.merge.method=conflict", "merge", "a", check=False).returncode == 1
    done = three.run("theta", "merge", "--report", check=False)
    assert "the merge has conflicts, and no commit records it yet" in done.stderr
    three.git("theta", "resolve", "--method", "theirs", MODEL)
    done = three.run("theta", "merge", "--report", check=False)
    assert "the merge is not committed" in done.stderr
    three.git("commit", "--quiet", "--no-edit")
    assert three.git("theta", "merge", "--report")


def test_plan_for_people_has_a_row_for_each_group_and_exits_with_1_for_conflicts(three: Repo) -> None:
    done = three.run("theta", "merge", "--plan", "-X", "method=conflict", "a", check=False)
    assert done.returncode == 1
    assert "in conflict: 1 parameter" in done.stdout
    assert f"taken from theirs: 1 parameter\n    {ATTENTION[1]}" in done.stdout
    assert "no checkpoint was changed" in three.git("theta", "merge", "--plan", "base")
    assert three.read() == model(1, {EMBEDDING: 2, ATTENTION[0]: 2})
    assert three.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--plan"], 2, "needs the branches"),
        (["--plan", "nowhere"], 3, "nowhere"),
        (["--replay", "a", "b"], 2, "expected one commit"),
        (["--plan", "-X", "method=avarage", "a"], 12, "avarage"),
        (["a"], 2, "git merge a"),
        (["--report", "HEAD", "--", MODEL], 2, "paths need --plan"),
    ],
)
def test_mistakes_are_named(three: Repo, args: list[str], code: int, words: str) -> None:
    done = three.run("theta", "merge", *args, check=False)
    assert done.returncode == code
    assert words in done.stderr
