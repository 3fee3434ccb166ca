"""Requests of HTTP by the settings of git: proxies, certificates, credentials, and where the LFS server is."""

from __future__ import annotations

import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from shutil import which
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import ConfigError, RemoteError
from git_theta_ext.git.repository import Repository
from git_theta_plugins.remotes import _lfs_endpoints
from git_theta_plugins.remotes._credentials import configured_headers, from_git, from_netrc, from_url
from git_theta_plugins.remotes._git_settings import GitSettings
from git_theta_plugins.remotes._http import ConnectionFailedError, Http
from git_theta_plugins.remotes._lfs_endpoints import Endpoints
from git_theta_plugins.remotes._lfs_server import LfsServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "https://git.example/team/models.git"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "local")], check=True)
    return Repository.discover(tmp_path / "local")


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        data = f"{self.path} {self.headers.get('Authorization')} {self.headers.get('Proxy-Authorization')}".encode()
        self.send_response(302 if "to=" in self.path else 200)
        if "to=" in self.path:
            self.send_header("Location", self.path.partition("to=")[2])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def got(url: str, *own: tuple[str, str], follow: bool = False, **environment: str) -> str:
    http = Http(GitSettings(own, (), environment), 5)
    with http.request("GET", url, {"Authorization": "secret"}, follow=follow) as reply:
        return reply.body(1000).decode()


def test_a_proxy_gets_whole_urls_and_its_own_credentials(server):
    proxy = f"http://me:word@127.0.0.1:{server.server_port}"
    assert got("http://models.invalid/a?b", ("http.proxy", proxy)) == (
        "http://models.invalid/a?b secret Basic bWU6d29yZA=="
    )
    with pytest.raises(ConfigError, match=r"the proxy socks5://host is not an http proxy"):
        got("http://models.invalid/a", ("http.http://models.invalid.proxy", "socks5://me:word@host"))


def test_proxies_of_the_environment_and_their_exceptions(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    assert got("http://models.invalid/a").startswith("http://models.invalid/a ")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert got(f"http://127.0.0.1:{server.server_port}/a") == "/a secret None"


def test_redirects_keep_credentials_on_one_origin(server):
    here = f"http://127.0.0.1:{server.server_port}"
    assert got(f"{here}/?to=/b") == "/b secret None"
    there = f"http://localhost:{server.server_port}/b"
    assert got(f"{here}/?to={there}", follow=True) == "/b None None"
    with pytest.raises(RemoteError, match="gets no credentials"):
        got(f"{here}/?to={there}")
    with pytest.raises(RemoteError, match="more than 5 redirects"):
        got(f"{here}/?to=/?to=/?to=/?to=/?to=/?to=/?to=/b")
    with pytest.raises(RemoteError, match="not encrypted"):
        got(f"{here}/?to=file:///etc/passwd")


def test_an_answer_that_is_too_large_is_cut(server):
    http = Http(GitSettings(), 5)
    with (
        pytest.raises(RemoteError, match="exceeds the limit of 3 bytes"),
        http.request("GET", f"http://127.0.0.1:{server.server_port}/a", {}) as reply,
    ):
        reply.body(3)


def test_a_host_that_does_not_answer_is_named():
    with pytest.raises(ConnectionFailedError, match=r"http://127\.0\.0\.1:1: .*refused"):
        got("http://me:word@127.0.0.1:1/a?token=x")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(path), "-keyout", str(path.with_suffix(".key"))]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_certificates_are_those_of_git(server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_port}/a"
    with pytest.raises(RemoteError, match="not trusted") as caught:
        got(url)
    assert "sslCAInfo" in caught.value.hint
    assert got(url, ("http.sslcainfo", str(certificate))) == "/a secret None"
    assert got(url, ("http.sslverify", "false")) == "/a secret None"
    assert got(url, (f"http.{url}.sslverify", "false")) == "/a secret None"
    assert got(url, GIT_SSL_CAINFO=str(certificate)) == "/a secret None"
    assert got(url, GIT_SSL_NO_VERIFY="1") == "/a secret None"
    with pytest.raises(ConfigError, match="certificate file"):
        got(url, ("http.sslcert", "/nowhere"))


def test_settings_for_a_url_count_more_and_an_empty_one_resets():
    settings = GitSettings(
        (
            ("http.extraheader", "A: 1"),
            ("http.https://git.example.extraheader", "B: 2"),
            ("http.https://git.example.extraheader", "C: 3"),
            ("http.https://other.example.extraheader", "D: 4"),
        )
    )
    assert configured_headers(settings, URL) == {"A": "1", "B": "2", "C": "3"}
    assert configured_headers(settings, "https://x.example") == {"A": "1"}
    empty = GitSettings((*settings.own, ("http.https://git.example/team.extraheader", "")))
    assert configured_headers(empty, URL) == {}


@pytest.mark.parametrize(
    ("own", "tracked", "upload", "download"),
    [
        ((), (), f"{URL}/info/lfs", f"{URL}/info/lfs"),
        ((("lfs.url", "https://a/"),), (), "https://a/", "https://a/"),
        ((("lfs.pushurl", "https://a/"),), (), "https://a/", f"{URL}/info/lfs"),
        ((), (("lfs.url", "https://a/"),), "https://a/", "https://a/"),
        ((("lfs.url", "https://a/"),), (("remote.origin.lfsurl", "https://b/"),), "https://a/", "https://a/"),
        ((("remote.origin.lfspushurl", "https://b/"), ("lfs.url", "https://a/")), (), "https://b/", "https://a/"),
        ((("lfs.url", "short:x"), ("url.https://c/.insteadof", "short:")), (), "https://c/x", "https://c/x"),
    ],
)
def test_the_server_is_where_git_lfs_finds_it(own, tracked, upload, download):
    settings = GitSettings(own, tracked)
    endpoints = Endpoints(None, settings, "origin", URL)
    assert endpoints.get("upload").url == endpoints.url("upload") == upload
    assert endpoints.get("download").url == endpoints.url("download") == download


def test_a_server_that_is_not_one_of_http_is_refused():
    settings = GitSettings((("lfs.url", "file:///srv/models"),))
    with pytest.raises(ConfigError, match="not the address of an LFS server"):
        Endpoints(None, settings, "origin", URL).get("upload")


def test_a_tracked_file_has_only_safe_settings(repository):
    (repository.folder / ".lfsconfig").write_text(
        '[lfs]\n\turl = https://a/\n\tcustomtransfer = x\n[remote "origin"]\n\tlfsurl = https://b/\n'
        "[core]\n\tsshCommand = rm\n[http]\n\tproxy = http://evil\n[include]\n\tpath = /etc/passwd\n"
    )
    settings = GitSettings.read(repository)
    assert dict(settings.tracked) == {"lfs.url": "https://a/", "remote.origin.lfsurl": "https://b/"}
    repository.run("add", ".lfsconfig")
    (repository.folder / ".lfsconfig").unlink()
    assert GitSettings.read(repository).tracked == settings.tracked
    (repository.folder / ".lfsconfig").write_text("[lfs]\n\turl = x\n" + "#\n" * 40_000)
    assert GitSettings.read(repository).tracked == ()


def test_credentials_in_an_address_and_in_a_netrc_file(tmp_path):
    found = from_url("https://me:pass%20word@host/x")
    assert found.header() == {"Authorization": "Basic bWU6cGFzcyB3b3Jk"}
    assert "word" not in repr(found)
    assert from_url("https://me@host/x") is None
    settings = GitSettings((), (), {"HOME": str(tmp_path)})
    assert from_netrc(settings, URL) is None
    (tmp_path / ".netrc").write_text("machine git.example login me password word\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert from_netrc(settings, URL).header() == {"Authorization": "Basic bWU6d29yZA=="}
    assert from_netrc(settings, "https://other.example/") is None
    (tmp_path / ".netrc").write_text("machine")
    assert from_netrc(settings, URL) is None


def test_git_credential_is_asked_with_the_user_of_the_address(repository):
    helper = '!f() { echo username=me; echo "password=$(tr "\\n" " ")"; }; f'
    repository.run("config", "credential.helper", helper)
    found = from_git(repository, "https://you:x@git.example/team/models.git/info/lfs", 'Basic realm="x"')
    assert found.user == "me"
    assert "host=git.example" in found.password
    assert "username=you" in found.password
    assert "password=x" not in found.password
    repository.run("config", "--unset", "credential.helper")
    with pytest.raises(RemoteError, match=r"git\.example.* asks for a user name"):
        from_git(repository, "https://you:word@git.example/", None)


HUB = "https://huggingface.co/team/models"


@pytest.fixture
def hub(repository, tmp_path):
    """Return what finds credentials for Hugging Face, where both kinds of tokens are there."""
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_text("hf_fileword\n")
    environment = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "huggingface"), "HF_TOKEN": " hf_variableword"}

    def endpoints(address: str = HUB, **more: str) -> Endpoints:
        return Endpoints(repository, GitSettings((), (), {**environment, **more}), "origin", address)

    return endpoints


def tried(endpoints: Endpoints, refusals: int) -> str:
    """Return the header that is sent after some others were refused."""
    for _ in range(refusals):
        endpoints.log_in("upload", endpoints.get("upload"), None)
    return endpoints.get("upload").headers["Authorization"]


def test_tokens_of_hugging_face_are_tried_in_turn_and_not_printed(repository, hub):
    assert "Authorization" not in hub().get("upload").headers  # a public repository needs none
    assert tried(hub(), 1) == "Bearer hf_variableword"
    assert tried(hub(), 2) == tried(hub(HF_TOKEN=""), 1) == "Bearer hf_fileword"
    assert tried(hub(HF_TOKEN="", HUGGING_FACE_HUB_TOKEN="hf_old"), 1) == "Bearer hf_old"
    with pytest.raises(RemoteError, match="not accept HF_TOKEN or the token of hf auth login") as caught:
        tried(hub(), 3)
    assert "word" not in caught.value.message.replace("password", "")
    assert "word" not in repr(hub().get("upload").credential)
    repository.run("config", "credential.helper", "!f() { echo username=me; echo password=word; }; f")
    assert tried(hub(), 2) == tried(hub(HF_TOKEN="bad\nX: y"), 1) == "Basic bWU6d29yZA=="
    with pytest.raises(RemoteError, match="does not accept HF_TOKEN or the credential of user 'me'"):
        tried(hub(), 3)


def test_a_token_without_permission_is_named_and_so_is_what_gives_one(hub):
    statuses = [401, 403]
    reply = SimpleNamespace(header=lambda _: None, body=lambda _: b"{}")

    @contextmanager
    def request(*_: object) -> Iterator[SimpleNamespace]:
        reply.status = statuses.pop(0)
        yield reply

    server = LfsServer(hub(), SimpleNamespace(request=request))
    with pytest.raises(RemoteError, match=r"huggingface\.co.*status 403, with HF_TOKEN") as caught:
        server.batch("upload", [])
    assert "huggingface.co/settings/tokens" in caught.value.hint


@pytest.mark.parametrize("address", ["http://huggingface.co/a/b", "https://huggingface.co.evil/a/b", URL])
def test_no_other_host_gets_a_token_of_hugging_face(hub, address):
    with pytest.raises(RemoteError, match="asks for a user name") as caught:
        tried(hub(address), 1)
    assert "hf_" not in caught.value.message


def test_a_server_that_refuses_a_login_for_uploads_gets_one_for_downloads(repository, monkeypatch):
    logins = []

    def authenticate(_git: object, _address: object, operation: str) -> bytes:
        logins.append(operation)
        return b'{"href": "https://lfs.example/x", "header": {"Authorization": "%s"}}' % operation.encode()

    monkeypatch.setattr(_lfs_endpoints, "authenticate", authenticate)
    endpoints = Endpoints(repository, GitSettings(), "origin", "git@git.example:team/models.git")
    endpoints.get("upload")
    shared = endpoints.get("download")
    assert (shared.headers["Authorization"], logins) == ("upload", ["upload"])
    endpoints.log_in("download", shared, None)
    assert endpoints.get("download").headers["Authorization"] == "download"
    other = Endpoints(repository, GitSettings((("lfs.pushurl", "git@other.example:x"),)), "origin", "git@git.example:x")
    assert [other.get(operation).headers["Authorization"] for operation in ("upload", "download")] == [
        "upload",
        "download",
    ]
