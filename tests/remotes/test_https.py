import re
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from servers import served

from git_theta_ext.errors import ConfigError, RemoteError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.testing import RemoteTests
from git_theta_plugins.remotes import directory, https

KEY = "packs/ab/" + "ab" * 32


class Plain(SimpleHTTPRequestHandler):
    """Lists directories, and knows no ranges, as ``python -m http.server``."""

    def log_message(self, *_):
        pass


class Ranged(Plain):
    """Sends ranges, and lists no directories."""

    protocol_version = "HTTP/1.1"

    def list_directory(self, _):
        self.send_error(403)

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            return super().do_GET()
        content = path.read_bytes()
        start, end = int(wanted[1]), min(int(wanted[2] or len(content)) + 1, len(content))
        self.send_response(206 if start < len(content) else 416)
        self.send_header("Content-Length", str(max(0, end - start)))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start:end])
        return None


class Published:
    """A directory that is read by a web server."""

    def __init__(self, root, url, report, *, listed):
        self._directory = directory.open_remote(str(root), {}, RemoteContext())
        self._root, self._listed = root, listed
        web = https.open_remote(url, {"timeout": "20"}, RemoteContext(report=report))
        self.list, self.get, self.fetch, self.keep = web.list, web.get, web.fetch, web.keep
        self._write_list()

    def put(self, key, path):
        added = self._directory.put(key, path)
        self._write_list()
        return added

    def publish(self, entries):
        self._directory.publish(entries)
        self._write_list()

    def _write_list(self):
        if self._listed:
            files = (path.relative_to(self._root) for path in self._root.rglob("*") if path.is_file())
            (self._root / https.LIST).write_text("".join(f"./{path}\n" for path in files))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    with served(partial(Plain, directory=root)) as plain, served(partial(Ranged, directory=root)) as ranged:
        yield root, plain, ranged


@pytest.fixture
def published(site, tmp_path):
    folder = site[0] / tmp_path.name
    (folder / "packs").mkdir(parents=True)
    for path in (folder, folder / "packs"):
        path.chmod(0o700)  # so that files are copied, and not linked: the tests write them again
    return folder


class TestPagesWithoutRanges(RemoteTests):
    @pytest.fixture
    def remote(self, site, published, report):
        return Published(published, f"{site[1]}/{published.name}/", report, listed=False)


class TestListWithRanges(RemoteTests):
    @pytest.fixture
    def remote(self, site, published, report):
        return Published(published, f"{site[2]}/{published.name}", report, listed=True)


def opened(url):
    return https.open_remote(url, {}, RemoteContext())


def test_nothing_is_written(site, tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    remote = opened(site[1])
    for write in (lambda: remote.put(KEY, tmp_path / "a"), lambda: remote.publish({KEY: tmp_path / "a"})):
        with pytest.raises(RemoteError, match="can only be read") as caught:
            write()
        assert "takes uploads" in caught.value.hint


def test_a_server_without_any_list_is_an_error_not_an_empty_remote(site):
    with pytest.raises(RemoteError, match="nor a page that lists packs/") as caught:
        list(opened(f"{site[2]}/nothing").list(""))
    assert "find . -type f" in caught.value.hint


def test_links_that_lead_elsewhere_are_not_followed(tmp_path):
    folder = tmp_path / "packs"
    folder.mkdir()
    hostile = f'<a href="../../etc/">x</a><a href="http://other/ab/">ab</a><a href="//other/{"cd" * 32}">x</a>'
    (folder / "index.html").write_text(hostile)
    with served(partial(Plain, directory=tmp_path)) as url:
        assert list(opened(url).list("")) == []


def test_lines_that_are_no_keys_are_ignored(tmp_path):
    (tmp_path / https.LIST).write_text(f"../../etc/passwd\npacks/../x\n./{KEY}\n\0\n")
    with served(partial(Plain, directory=tmp_path)) as url:
        assert list(opened(url).list("packs/")) == [KEY]
        assert list(opened(url).list("index/")) == []


@pytest.mark.parametrize("url", ["https://", "https://user:hunter2@host/x", "https://host/x?secret=1", "ftp://host/x"])
def test_bad_urls_are_refused(url):
    with pytest.raises(ConfigError) as caught:
        opened(url)
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_settings_of_other_remotes_are_refused():
    with pytest.raises(ConfigError, match="unknown setting region"):
        https.open_remote("https://host/x", {"region": "x"}, RemoteContext())
