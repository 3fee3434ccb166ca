import os
import subprocess

import pytest

from git_theta_ext.errors import ConfigError, PluginError, RemoteError
from git_theta_ext.git.remotes import local_path, open_remote, open_remotes, redact
from git_theta_ext.git.repository import Repository


def git(*args, cwd):
    return subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def work(tmp_path):
    git("init", "-q", "-b", "main", "work", cwd=tmp_path)
    git("init", "-q", "--bare", "bare.git", cwd=tmp_path)
    return tmp_path / "work"


def opened(work, name, address):
    return open_remote(Repository.discover(work), name, address)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/srv/a.git", "/srv/a.git"),
        ("../a", "../a"),
        ("./a:b", "./a:b"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("host:a", None),
        ("git@host:a/b", None),
        ("https://host/a", None),
        ("ssh://host/a", None),
        ("ext::sh -c x", None),
    ],
)
def test_addresses_on_this_machine_follow_gits_rules(address, path):
    assert local_path(address) == path


def test_a_bare_repository_keeps_packs_in_its_theta_folder(work, tmp_path):
    expected = str(tmp_path / "bare.git" / "theta")
    assert opened(work, "origin", str(tmp_path / "bare.git")).url == expected
    assert opened(work, "origin", f"file://{tmp_path}/bare.git").url == expected
    assert opened(work, "origin", "../bare.git").url == expected
    assert opened(work, "origin", "../bare").url == expected


def test_a_work_tree_shares_its_own_store(work, tmp_path):
    git("init", "-q", "other", cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "x", cwd=tmp_path / "other")
    git("worktree", "add", "-q", "../linked", cwd=tmp_path / "other")
    expected = str(tmp_path / "other" / ".git" / "theta")
    assert opened(work, "o", str(tmp_path / "other")).url == expected
    assert opened(work, "o", str(tmp_path / "other" / ".git")).url == expected
    assert opened(work, "o", str(tmp_path / "linked")).url == expected


def test_a_hooks_environment_does_not_lead_back_to_the_own_repository(work, tmp_path, monkeypatch):
    repo = Repository.discover(work)
    monkeypatch.setenv("GIT_DIR", str(work / ".git"))
    place = open_remote(repo, "origin", str(tmp_path / "bare.git"))
    assert place.url == str(tmp_path / "bare.git" / "theta")


def test_a_folder_inside_a_repository_is_no_repository(work):
    (work / "sub").mkdir()
    with pytest.raises(RemoteError, match="not a git repository"):
        opened(work, "origin", str(work / "sub"))


def test_a_repository_that_is_gone_is_an_error(work, tmp_path):
    with pytest.raises(RemoteError, match="no git repository"):
        opened(work, "origin", str(tmp_path / "gone"))


def test_other_addresses_need_a_setting_and_the_hint_says_which(work):
    with pytest.raises(ConfigError) as caught:
        opened(work, "origin", "https://me:secret@host/a.git")
    assert "git config theta.remote.origin.url" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_the_setting_overrides_the_address(work, tmp_path):
    git("config", "theta.remote.origin.url", str(tmp_path / "share"), cwd=work)
    assert opened(work, "origin", "https://host/a.git").url == str(tmp_path / "share")
    git("config", "theta.remote.origin.url", "../share", cwd=work)
    place = opened(work, "origin", "https://host/a.git")
    assert os.path.normpath(place.url) == str(tmp_path / "share")
    assert list(place.remote.list("")) == []


def test_settings_reach_the_plugin(work):
    git("config", "theta.remote.origin.url", "s3://bucket/prefix", cwd=work)
    git("config", "theta.remote.origin.endpiont", "http://127.0.0.1:1", cwd=work)
    with pytest.raises(ConfigError, match="endpiont"):
        opened(work, "origin", "https://host/a.git")


def test_the_type_names_another_plugin(work, tmp_path):
    git("config", "theta.remote.origin.url", f"file://{tmp_path}/share", cwd=work)
    git("config", "theta.remote.origin.type", "kvstore", cwd=work)
    assert type(opened(work, "origin", "x").remote).__name__ == "KvStore"


def test_an_unknown_scheme_asks_for_a_plugin(work):
    git("config", "theta.remote.origin.url", "carrier-pigeon://loft", cwd=work)
    with pytest.raises(PluginError, match="carrier-pigeon"):
        opened(work, "origin", "x")


def test_the_branchs_remote_is_asked_first_and_useless_ones_are_left_out(work, tmp_path):
    for name in ("alpha", "origin", "upstream"):
        git("init", "-q", "--bare", f"{name}.git", cwd=tmp_path)
        git("remote", "add", name, f"../{name}.git", cwd=work)
    git("remote", "add", "web", "https://host/a.git", cwd=work)
    assert [place.name for place in open_remotes(Repository.discover(work))] == ["origin", "alpha", "upstream"]
    git("config", "branch.main.remote", "upstream", cwd=work)
    assert [place.name for place in open_remotes(Repository.discover(work))] == ["upstream", "origin", "alpha"]


def test_when_no_remote_can_be_opened_the_reason_is_told(work):
    git("remote", "add", "web", "https://host/a.git", cwd=work)
    with pytest.raises(ConfigError, match="keeps parameters"):
        open_remotes(Repository.discover(work))


def test_a_repository_without_remotes_has_none(work):
    assert open_remotes(Repository.discover(work)) == []


def test_rewritten_addresses_are_followed(work, tmp_path):
    git("config", f"url.{tmp_path}/.insteadOf", "short:", cwd=work)
    git("remote", "add", "origin", "short:bare.git", cwd=work)
    assert [place.url for place in open_remotes(Repository.discover(work))] == [str(tmp_path / "bare.git" / "theta")]


def test_credentials_are_not_shown():
    assert redact("https://me:secret@host/a@b") == "https://host/a@b"
