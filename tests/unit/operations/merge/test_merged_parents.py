"""Which commits a commit can have merged, by its parents."""

from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import independent
from git_theta_ext.operations.merge.trailers import are_merged


def test_the_parents_and_what_git_leaves_out_of_them_were_merged(repo, monkeypatch):
    made = {}
    for name in ("main", "a", "b"):
        repo.git("checkout", "--quiet", *(["main"] if name == "main" else ["-b", name, made["main"]]))
        repo.git("commit", "--quiet", "--allow-empty", "--message", name)
        made[name] = repo.git("rev-parse", "HEAD")
    main, a, b = made.values()
    monkeypatch.chdir(repo.path)
    found = Repository.discover()
    assert are_merged(found, [a, b], [a, b])
    assert are_merged(found, [main, a, b], [a, b])
    for commits, parents in (
        ([main, a], [a, b]),
        ([main, a], [a]),
        (["--all", a, b], [a, b]),
        (["0" * 40, a, b], [a, b]),
    ):
        assert not are_merged(found, commits, parents)


def test_commits_are_independent_if_none_contains_another(repo, monkeypatch):
    made = []
    for name in ("main", "a", "b"):
        repo.git("checkout", "--quiet", *(["main"] if name == "main" else ["-b", name, "main"]))
        repo.git("commit", "--quiet", "--allow-empty", "--message", name)
        made.append(repo.git("rev-parse", "HEAD"))
    repo.git("checkout", "--quiet", "--orphan", "other")
    repo.git("commit", "--quiet", "--allow-empty", "--message", "other")
    main, a, b, other = *made, repo.git("rev-parse", "HEAD")
    monkeypatch.chdir(repo.path)
    found = Repository.discover()
    for commits in ([a, b], [a, other], [a, b, other], [a]):
        assert independent(found, commits), commits
    for commits in ([main, a], [a, main], [main, a, b], [a, "0" * 40]):
        assert not independent(found, commits), commits
