"""Push to a bucket, and clone from it and from a web server that publishes it."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model
from servers import ID, SECRET, served

if TYPE_CHECKING:
    from pathlib import Path


class Web(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket(
    rclone: str, rclone_root: Path, two: Repo, shared: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return the directory of a bucket that a tracked file names as the place of the parameters."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert shared.path.is_dir()
    name(two, f"s3://models/{tmp_path.name}", rclone)
    return rclone_root / "models" / tmp_path.name


def name(repo: Repo, url: str, endpoint: str) -> None:
    settings = f"[theta]\n\turl = {url}\n\tendpoint = {endpoint}\n\tregion = us-east-1\n"
    repo.write(settings.encode() if endpoint else f"[theta]\n\turl = {url}\n".encode(), ".thetaconfig")
    repo.commit("share parameters")


def clone(shared: Repo, place: Path) -> Repo:
    Repo(place.parent).git("clone", "--quiet", str(shared.path), place.name)
    return Repo(place)


def test_a_bucket_keeps_parameters_which_a_web_server_may_publish(
    bucket: Path, shared: Repo, two: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = two.run("push", "--quiet", "origin", "main", "one")
    assert pushed.stderr == ""
    assert not (shared.path / "theta" / "packs").exists()
    copy = clone(shared, tmp_path / "clone")
    assert copy.problems(MODEL, model(2)) == []
    copy.write_model(seed=3)
    copy.commit("three")
    copy.git("push", "--quiet", "origin", "main")
    two.git("pull", "--quiet", "--ff-only", "origin", "main")
    assert two.problems(MODEL, model(3)) == []
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with served(partial(Web, directory=bucket)) as url:
        name(copy, url, "")
        copy.git("push", "--quiet", "origin", "main")  # there is nothing to upload
        reader = clone(shared, tmp_path / "reader")
        assert reader.problems(MODEL, model(3)) == []
        reader.write_model(seed=4)
        reader.commit("four")
        refused = reader.run("push", "origin", "main", check=False)
    assert refused.returncode
    assert "can only be read" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_wrong_secret_refuses_the_push(bucket: Path, two: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    refused = two.run("push", "origin", "main", check=False)
    assert refused.returncode
    assert "403 Forbidden (SignatureDoesNotMatch), with AWS_ACCESS_KEY_ID" in refused.stderr
    assert not bucket.exists()
