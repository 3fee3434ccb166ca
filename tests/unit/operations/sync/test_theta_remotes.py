import os
import subprocess
from shlex import quote

import pytest
from reports import Reports

from git_theta_ext.errors import ConfigError, PluginError, RemoteError
from git_theta_ext.operations.sync.remotes import local_path, open_remote, open_remotes
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.text import redacted


def git(*args, cwd):
    return subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def work(tmp_path):
    git("init", "-q", "-b", "main", "work", cwd=tmp_path)
    git("init", "-q", "--bare", "bare.git", cwd=tmp_path)
    return tmp_path / "work"


def opened(work, name, address, reports=None):
    return open_remote(Workspace.discover(reports or Reports(), work), name, address)


def every(work):
    return open_remotes(Workspace.discover(Reports(), work))


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
    workspace = Workspace.discover(Reports(), work)
    monkeypatch.setenv("GIT_DIR", str(work / ".git"))
    place = open_remote(workspace, "origin", str(tmp_path / "bare.git"))
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
        opened(work, "origin", "git://me:secret@host/a.git")
    assert "git config theta.remote.origin.url" in caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["https://me:secret@host/a.git", "http://host/a", "ssh://host/a", "git@host:a/b"])
def test_a_git_server_has_an_lfs_server_beside_it(work, address):
    remote = opened(work, "origin", address)
    assert type(remote.plugin).__name__ == "Lfs"
    assert remote.url == redacted(address)
    assert "secret" not in remote.url


def test_the_setting_overrides_the_address(work, tmp_path):
    git("config", "theta.remote.origin.url", str(tmp_path / "share"), cwd=work)
    assert opened(work, "origin", "https://host/a.git").url == str(tmp_path / "share")
    git("config", "theta.remote.origin.url", "../share", cwd=work)
    place = opened(work, "origin", "https://host/a.git")
    assert os.path.normpath(place.url) == str(tmp_path / "share")
    assert list(place.plugin.list("")) == []


def test_settings_reach_the_plugin(work):
    git("config", "theta.remote.origin.url", "s3://bucket/prefix", cwd=work)
    git("config", "theta.remote.origin.endpiont", "http://127.0.0.1:1", cwd=work)
    with pytest.raises(ConfigError, match="endpiont"):
        opened(work, "origin", "https://host/a.git")


def test_the_type_names_another_plugin(work):
    git("config", "theta.remote.origin.url", "s3://bucket/share", cwd=work)
    git("config", "theta.remote.origin.type", "https", cwd=work)
    with pytest.raises(ConfigError, match="s3://bucket/share is not https://"):
        opened(work, "origin", "x")


@pytest.mark.parametrize(("url", "kind"), [("file:///share", "Directory"), ("s3://bucket/share", "ObjectStore")])
def test_a_type_of_earlier_versions_is_that_of_the_scheme(work, url, kind):
    git("config", "theta.remote.origin.url", url, cwd=work)
    git("config", "theta.remote.origin.type", "kvstore", cwd=work)
    assert type(opened(work, "origin", "x").plugin).__name__ == kind


def test_an_unknown_scheme_asks_for_a_plugin(work):
    git("config", "theta.remote.origin.url", "carrier-pigeon://loft", cwd=work)
    with pytest.raises(PluginError, match="carrier-pigeon"):
        opened(work, "origin", "x")


def test_the_branchs_remote_is_asked_first_and_useless_ones_are_left_out(work, tmp_path):
    for name in ("alpha", "origin", "upstream"):
        git("init", "-q", "--bare", f"{name}.git", cwd=tmp_path)
        git("remote", "add", name, f"../{name}.git", cwd=work)
    git("remote", "add", "web", "git://host/a.git", cwd=work)
    assert [place.name for place in every(work)] == ["origin", "alpha", "upstream"]
    git("config", "branch.main.remote", "upstream", cwd=work)
    assert [place.name for place in every(work)] == ["upstream", "origin", "alpha"]


def test_when_no_remote_can_be_opened_the_reason_is_told(work):
    git("remote", "add", "web", "git://host/a.git", cwd=work)
    with pytest.raises(ConfigError, match="no store is configured"):
        every(work)


def test_a_repository_without_remotes_has_none(work):
    assert every(work) == []


def test_rewritten_addresses_are_followed(work, tmp_path):
    git("config", f"url.{tmp_path}/.insteadOf", "short:", cwd=work)
    git("remote", "add", "origin", "short:bare.git", cwd=work)
    assert [place.url for place in every(work)] == [str(tmp_path / "bare.git" / "theta")]


def test_credentials_are_not_shown():
    assert redacted("https://me:secret@host/a@b") == "https://host/a@b"


def test_settings_are_found_by_the_address_of_the_git_remote(work, tmp_path):
    git("config", "theta.remote.https://host/a.git.url", str(tmp_path / "share"), cwd=work)
    assert opened(work, "https://host/a.git", "https://host/a.git").url == str(tmp_path / "share")
    git("remote", "add", "web", "https://host/a.git", cwd=work)
    assert opened(work, "web", "https://elsewhere/a.git").url == str(tmp_path / "share")
    assert opened(work, "https://host/a", "https://host/a").url == "https://host/a"


def test_a_push_to_a_remotes_address_finds_what_is_set_for_its_name(work, tmp_path):
    git("remote", "add", "web", "https://host/a.git", cwd=work)
    git("config", "theta.remote.web.url", str(tmp_path / "share"), cwd=work)
    assert opened(work, "https://host/a.git", "https://host/a.git").url == str(tmp_path / "share")


def test_settings_follow_a_remote_that_was_renamed_and_the_command_that_keeps_them_works(work, tmp_path):
    reports = Reports()
    git("remote", "add", "origin", "../bare.git", cwd=work)
    git("config", "theta.remote.origin.url", str(tmp_path / "share"), cwd=work)
    git("remote", "rename", "origin", "upstream", cwd=work)
    assert opened(work, "upstream", "../bare.git", reports).url == str(tmp_path / "share")
    (line,) = reports.lines
    git(*line.partition("to rename the setting: git ")[2].split(), cwd=work)
    assert opened(work, "upstream", "../bare.git", reports).url == str(tmp_path / "share")
    assert reports.lines == [line]


def test_where_more_than_one_remote_may_be_the_renamed_one_it_is_said_and_not_guessed(work, tmp_path):
    reports = Reports()
    for name in ("one", "two"):
        git("remote", "add", name, "../bare.git", cwd=work)
    git("config", "theta.remote.before.url", str(tmp_path / "share"), cwd=work)
    assert opened(work, "two", "../bare.git", reports).url == str(tmp_path / "bare.git" / "theta")
    assert "if two is its new name: git config --rename-section theta.remote.before" in reports.lines[0]


def test_what_the_user_set_for_other_repositories_is_of_no_remote_that_was_renamed(work, tmp_path):
    reports = Reports()
    git("remote", "add", "origin", "../bare.git", cwd=work)
    git("config", "--global", "theta.remote.backup.url", str(tmp_path / "share"), cwd=work)
    assert opened(work, "origin", "../bare.git", reports).url == str(tmp_path / "bare.git" / "theta")
    assert reports.lines == []


def tracked(work, text):
    (work / ".thetaconfig").write_text(text)


SHARED = """\
[theta]
    url = s3://bucket/models
    region = eu-1
    threads = 9
[include]
    path = other
[core]
    editor = x
"""


def test_a_tracked_file_says_where_parameters_are_in_the_work_tree_the_index_or_a_bare_repository(work, tmp_path):
    tracked(work, SHARED)
    (work / "other").write_text('[theta "remote.origin"]\n\turl = s3://elsewhere/x\n')
    git("remote", "add", "origin", "https://host/a.git", cwd=work)
    assert opened(work, "origin", "https://host/a.git").url == "s3://bucket/models"
    git("add", ".thetaconfig", cwd=work)
    (work / ".thetaconfig").unlink()
    assert opened(work, "origin", "https://host/a.git").url == "s3://bucket/models"
    git("commit", "-q", "-m", "x", cwd=work)
    git("rm", "-q", "--cached", ".thetaconfig", cwd=work)
    assert [place.url for place in every(work)] == ["s3://bucket/models"]
    git("clone", "-q", "--bare", "work", "copy.git", cwd=tmp_path)
    assert opened(tmp_path / "copy.git", "x", "https://host/a.git").url == "s3://bucket/models"


def test_the_users_configuration_wins_over_a_tracked_file_and_a_name_over_all(work, tmp_path):
    tracked(work, f'{SHARED}[theta "remote.origin"]\n\turl = s3://bucket/mine\n')
    git("remote", "add", "origin", "https://host/a.git", cwd=work)
    assert opened(work, "origin", "https://host/a.git").url == "s3://bucket/mine"
    git("config", "theta.url", str(tmp_path / "all"), cwd=work)
    assert opened(work, "origin", "https://host/a.git").url == str(tmp_path / "all")
    git("config", "theta.remote.origin.url", str(tmp_path / "one"), cwd=work)
    assert opened(work, "origin", "https://host/a.git").url == str(tmp_path / "one")


@pytest.mark.parametrize("address", ["/srv/x", "../x", "file:///srv/x", "FILE://localhost/x", "~/x", "file:x"])
def test_a_tracked_file_chooses_no_folder_of_this_machine(work, address):
    tracked(work, f"[theta]\n\turl = {address}\n")
    with pytest.raises(ConfigError, match="must not choose a directory") as caught:
        opened(work, "origin", "../bare.git")
    assert caught.value.hint == f"git config theta.remote.origin.url {quote(address)}"


def test_the_short_form_of_a_host_is_not_taken_for_a_directory(work):
    git("config", "theta.remote.origin.url", "git@host:srv/theta", cwd=work)
    with pytest.raises(ConfigError, match="git@host:srv/theta can be a directory on a host") as caught:
        opened(work, "origin", "../bare.git")
    assert "ssh://HOST/DIRECTORY" in caught.value.hint
    git("config", "theta.remote.origin.url", "./host:theta", cwd=work)
    assert opened(work, "origin", "../bare.git").url == f"{work}/host:theta"


def test_a_tracked_file_may_name_the_user_of_a_host_that_is_reached_by_ssh(work):
    tracked(work, "[theta]\n\turl = ssh://git@host/srv/x\n")
    assert opened(work, "origin", "../bare.git").url == "ssh://host/srv/x"
    tracked(work, "[theta]\n\turl = ssh://git:secret@host/srv/x\n")
    with pytest.raises(ConfigError, match="password") as caught:
        opened(work, "origin", "../bare.git")
    assert "secret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("key", ["url", "endpoint"])
def test_a_tracked_file_holds_no_password_and_none_is_shown(work, key):
    tracked(work, f"[theta]\n\turl = s3://bucket/x\n\t{key} = https://me:secret@host/x\n")
    with pytest.raises(ConfigError, match="password") as caught:
        opened(work, "origin", "../bare.git")
    assert "secret" not in caught.value.message + caught.value.hint


def test_a_tracked_file_names_an_account_of_azure_and_no_server_that_gets_its_tokens(work):
    tracked(work, "[theta]\n\turl = az://models/x\n\taccount = team\n")
    assert opened(work, "origin", "../bare.git").url == "az://models/x"
    for scheme in ("az", "gs"):
        tracked(work, f"[theta]\n\turl = {scheme}://models/x\n\tendpoint = https://host\n")
        with pytest.raises(ConfigError, match="who gets an access token"):
            opened(work, "origin", "../bare.git")


@pytest.mark.parametrize("text", ["[theta\n", "[theta]\n\turl\n", "x" * 70_000])
def test_a_tracked_file_that_is_broken_is_named(work, text):
    tracked(work, text)
    with pytest.raises(ConfigError):
        opened(work, "origin", "../bare.git")


def test_a_link_in_the_place_of_the_tracked_file_is_not_followed(work, tmp_path):
    (tmp_path / "other").write_text(SHARED)
    (work / ".thetaconfig").symlink_to(tmp_path / "other")
    git("add", "-A", cwd=work)
    git("commit", "-q", "-m", "x", cwd=work)
    assert opened(work, "origin", "../bare.git").url == str(tmp_path / "bare.git" / "theta")


def test_an_address_that_was_fetched_from_without_a_name_is_asked_last(work, tmp_path):
    git("init", "-q", "--bare", "other.git", cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "x", cwd=work)
    git("push", "-q", "../other.git", "main", cwd=work)
    git("push", "-q", "../bare.git", "main", cwd=work)
    git("remote", "add", "origin", "../bare.git", cwd=work)
    git("fetch", "-q", "../other.git", "main", cwd=work)
    expected = [str(tmp_path / name / "theta") for name in ("bare.git", "other.git")]
    assert [place.url for place in every(work)] == expected
    git("fetch", "-q", "origin", cwd=work)
    assert [place.url for place in every(work)] == expected[:1]


@pytest.mark.parametrize("address", ["https://host/a.git", "git@host:a/b", "git://host/a", "../bare.git"])
@pytest.mark.parametrize("file", ["--local", "--file=.thetaconfig"])
@pytest.mark.parametrize("key", ["theta.type", "theta.remote.origin.type"])
def test_the_type_git_needs_no_url(work, address, file, key):
    git("config", file, key, "git", cwd=work)
    remote = opened(work, "origin", address)
    assert type(remote.plugin).__name__ == "Git"
    assert remote.url == address


@pytest.mark.parametrize("kind", ["lfs", "git"])
def test_a_tracked_file_sets_the_size_of_parts(work, kind):
    tracked(work, f'[theta]\n\ttype = {kind}\n[theta "remote.origin"]\n\tpartSize = 90m\n')
    opened(work, "origin", "https://host/a.git")
    tracked(work, f'[theta]\n\ttype = {kind}\n[theta "remote.origin"]\n\tpartSize = no\n')
    with pytest.raises(ConfigError, match="a part size of 'no'"):
        opened(work, "origin", "https://host/a.git")
