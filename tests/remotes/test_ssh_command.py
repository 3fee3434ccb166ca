"""How ssh is started: the URL, the program, its options, and what is said when it fails."""

from __future__ import annotations

import shlex
from types import SimpleNamespace

import pytest

from git_theta_ext.errors import ConfigError, RemoteError, RemoteTimeoutError
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes._sftp_connection import Ended
from git_theta_plugins.remotes._ssh_address import Address, parse_address
from git_theta_plugins.remotes._ssh_command import ssh_command
from git_theta_plugins.remotes._ssh_errors import RefusedError, explain
from git_theta_plugins.remotes.ssh import open_remote

ADDRESS = Address("git", "host", 2222, b"/srv/theta")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ssh://host/srv/theta", Address(None, "host", None, b"/srv/theta")),
        ("sftp://git@host:2222/srv/theta/", ADDRESS),
        ("SSH://git@host:2222/srv/theta", ADDRESS),
        ("ssh://host/~/models", Address(None, "host", None, b"models")),
        ("ssh://[::1]:22/x", Address(None, "::1", 22, b"/x")),
        ("ssh://host/with%20space?and#more", Address(None, "host", None, b"/with space?and#more")),
        ("ssh://CORP%5Cann@host/x", Address("CORP\\ann", "host", None, b"/x")),
        ("ssh://alias_of.mine/x", Address(None, "alias_of.mine", None, b"/x")),
    ],
)
def test_urls_name_a_directory_on_a_host(url, address):
    assert parse_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "ssh://host",
        "ssh://host/",
        "ssh://host/~/",
        "ssh:///srv/theta",
        "ssh://host:port/x",
        "ssh://host:99999/x",
        "ssh://@host/x",
        "ssh://user:word@host/x",
        "host:x",
        "ssh://-oProxyCommand=word/x",
        "ssh://git@-oProxyCommand=word/x",
        "ssh://-word@host/x",
        "ssh://%2DoProxyCommand=word/x",
        "ssh://[-oProxyCommand=word]/x",
        "ssh://$(word)/x",
        "ssh://`word`@host/x",
        "ssh://host%0aword/x",
        "ssh://a%20b/x",
        "ssh://host/x%00y",
    ],
)
def test_urls_that_could_be_taken_for_something_else_are_refused(url):
    with pytest.raises(ConfigError) as caught:
        open_remote(url, {}, RemoteContext())
    assert "user:word" not in str(caught.value)


@pytest.mark.parametrize("options", [{"endpoint": "x"}, {"timeout": "soon"}])
def test_unknown_or_wrong_settings_are_refused(options):
    with pytest.raises(ConfigError, match=min(options)):
        open_remote("ssh://host/x", options, RemoteContext())


def git(settings="", **environment):
    return SimpleNamespace(folder=None, environment=lambda: environment, run=lambda *_, **__: settings.encode())


PLAIN = ["-p", "2222", "-oForwardX11=no", "-s", "git@host", "sftp"]


@pytest.mark.parametrize(
    ("settings", "environment", "program"),
    [
        ("", {}, ["ssh"]),
        ("", {"GIT_SSH": "/opt/my ssh/ssh"}, ["/opt/my ssh/ssh"]),
        ("core.sshcommand\nssh -i key\0", {"GIT_SSH": "no"}, ["/bin/sh", "-c", 'ssh -i key "$@"', "ssh -i key"]),
        ("core.sshcommand\nno\0", {"GIT_SSH_COMMAND": "ssh -v"}, ["/bin/sh", "-c", 'ssh -v "$@"', "ssh -v"]),
        ("core.sshcommand\nno\0core.sshcommand\nssh\0", {}, ["/bin/sh", "-c", 'ssh "$@"', "ssh"]),
    ],
)
def test_the_program_is_the_one_that_git_uses(settings, environment, program):
    line = ssh_command(git(settings, **environment)).line(ADDRESS)
    assert line[: len(program)] == program
    assert [word for word in line[len(program) :] if not word.startswith("-o") or word in PLAIN] == PLAIN


@pytest.mark.parametrize(
    ("variant", "options"),
    [("plink", ["-P", "2222"]), ("putty", ["-P", "2222"]), ("tortoiseplink", ["-batch", "-P", "2222"])],
)
def test_programs_of_putty_get_options_of_their_own(variant, options):
    for command in (
        ssh_command(git(f"ssh.variant\n{variant}\0", GIT_SSH="x")),
        ssh_command(git(GIT_SSH="x", GIT_SSH_VARIANT=variant)),
    ):
        assert command.line(ADDRESS) == ["x", *options, "-s", "git@host", "sftp"]
        assert command.test(ADDRESS) == f"x {shlex.join(options)} git@host"


def test_putty_is_recognised_by_its_name():
    assert ssh_command(git(GIT_SSH="C:/bin/PLINK.exe")).variant == "plink"
    assert ssh_command(git(GIT_SSH_COMMAND="'/opt/a b/TortoisePlink' -x")).variant == "tortoiseplink"


def test_a_program_that_does_not_understand_the_options_is_not_used(tmp_path):
    for code, name in ((0, "knows"), (1, "simple")):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    assert ssh_command(git(GIT_SSH=str(tmp_path / "knows"))).line(ADDRESS)[-3:] == ["-s", "git@host", "sftp"]
    with pytest.raises(ConfigError, match="does not understand") as caught:
        ssh_command(git(GIT_SSH=str(tmp_path / "simple"))).line(ADDRESS)
    assert caught.value.hint == "git config ssh.variant ssh, if it does"


def test_a_program_that_is_not_there_is_an_error_with_a_hint():
    remote = open_remote("ssh://host/x", {}, RemoteContext(git=git(GIT_SSH="/nowhere/ssh")))
    with pytest.raises(RemoteError, match="/nowhere/ssh: No such file") as caught:
        remote.get("packs/a")
    assert "core.sshCommand" in caught.value.hint


TEST = ssh_command(git(GIT_SSH_COMMAND="ssh -i key")).test(ADDRESS)


@pytest.mark.parametrize(
    ("words", "kind", "said", "hint"),
    [
        ("git@host: Permission denied (publickey).", RefusedError, "the host does not accept the login", TEST),
        ("Host key verification failed.", RefusedError, "the key of the host is not trusted", TEST),
        ("@@@@@\nWARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\n@@@", RefusedError, "not trusted", TEST),
        ("subsystem request failed on channel 0", RefusedError, "offers no SFTP", "Subsystem sftp"),
        ("ssh: Could not resolve hostname host: unknown", RemoteError, "Could not resolve hostname", TEST),
        ("ssh: connect to host host port 22: Connection refused", RemoteError, "Connection refused", TEST),
        ("Warning: Permanently added 'x' to the list.\ndebug1: x\n", RemoteError, "the connection ended", TEST),
    ],
)
def test_what_ssh_writes_is_shown_with_what_to_do(words, kind, said, hint):
    error = explain(Ended(words), "ssh://host/x", TEST)
    assert type(error) is kind
    assert error.message.startswith("ssh://host/x: ")
    assert said in error.message
    assert "Permanently" not in error.message
    assert hint in error.hint


def test_the_command_that_tests_the_connection_can_be_typed():
    assert TEST == "ssh -i key -p 2222 -T git@host"


def test_silence_and_a_broken_protocol_are_told_apart():
    silent = explain(Ended("", silent=60), "ssh://host/x", TEST)
    assert isinstance(silent, RemoteTimeoutError)
    assert "no answer for 60 seconds" in silent.message
    broken = explain(Ended("", broken="not an SFTP packet"), "ssh://host/x", TEST)
    assert "breaks the SFTP protocol: not an SFTP packet" in broken.message


def test_a_shell_that_prints_a_greeting_is_told():
    error = explain(Ended("", broken="not a packet", began=b"Welcome to host\n"), "ssh://host/x", TEST)
    assert isinstance(error, RefusedError)
    assert "'Welcome to host'" in error.message
    assert f"{TEST} true" in error.hint
