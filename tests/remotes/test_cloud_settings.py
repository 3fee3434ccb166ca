"""Where object stores are, and where credentials are found."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler

import pytest
from servers import context, served

from git_theta_ext.errors import ConfigError, RemoteError
from git_theta_plugins.remotes import _aws
from git_theta_plugins.remotes._object_options import locate
from git_theta_plugins.remotes.object_store import open_remote


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """Start without any credentials, with an empty ``~/.aws``."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path / ".aws"


def opened(url, **options):
    return open_remote(url, options, context())


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:bucket",
        "ftp://host/x",
        "gs://",
        "file:///x",
        "s3://user:hunter2@bucket/x",
        "s3://b/x?secret=1",
        "s3://b/../x",
        "s3://b/x%0ay",
        "s3://a/b//c",
    ],
)
def test_bad_urls_are_refused(url):
    with pytest.raises(ConfigError) as caught:
        opened(url)
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://bucket", {"endpiont": "x"}),
        ("s3://bucket", {"account": "models"}),
        ("gs://bucket", {"region": "eu"}),
        ("s3://bucket", {"region": "evil.example/#"}),
        ("az://models", {"account": "evil.example/#"}),
        ("s3://bucket", {"endpoint": "ftp://host"}),
        ("s3://bucket", {"endpoint": "https://user:hunter2@host"}),
        ("s3://bucket", {"credentials": "cli"}),
        ("az://models", {"account": "models", "credentials": "profile"}),
    ],
)
def test_bad_settings_are_refused(url, options):
    with pytest.raises(ConfigError) as caught:
        opened(url, **options)
    assert "hunter2" not in str(caught.value)


def test_a_prefix_ends_with_one_slash():
    assert [locate(f"s3://b{path}", {}).prefix for path in ("", "/", "/x", "/x/y%20z/")] == ["", "", "x/", "x/y z/"]


def test_an_account_of_azure_is_a_setting_or_in_the_environment(monkeypatch):
    with pytest.raises(ConfigError, match="account") as caught:
        opened("az://models")
    assert "theta.remote.NAME.account" in caught.value.hint
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "models")
    assert opened("az://models")


def test_opening_sends_no_request():
    for url in ("s3://bucket", "gs://bucket/prefix"):
        assert opened(url) is not None


def described(word=None):
    return _aws.credentials("s3://b", word, os.environ)


def test_credentials_are_the_first_that_there_are(home, monkeypatch):
    assert described() == ({}, "with the credentials of this machine")
    (home / "credentials").write_text("[default]\naws_access_key_id = one\naws_secret_access_key = two\n")
    arguments, tried = described()
    assert tried == "with the profile default of ~/.aws"
    assert arguments["credential_provider"]()["secret_access_key"] == "two"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "three")
    assert described() == ({}, "with AWS_ACCESS_KEY_ID")
    assert described("profile")[1] == tried
    assert described("anonymous") == ({"skip_signature": True}, "without credentials")


def test_the_profile_of_the_environment_counts(home, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "team")
    (home / "config").write_text("[default]\nregion = x\n[profile team]\nregion = eu-central-1\n")
    (home / "credentials").write_text("[team]\naws_access_key_id = one\naws_session_token = t\n")
    assert described()[0]["credential_provider"]()["token"] == "t"
    monkeypatch.setattr(_aws, "_BUCKETS", "http://127.0.0.1:1")
    assert _aws.region_of("bucket", os.environ) == "eu-central-1"


def test_a_program_can_give_credentials(home):
    program = home / "program.py"
    printed = {"Version": 1, "AccessKeyId": "one", "SecretAccessKey": "two", "Expiration": "2030-01-01T00:00:00Z"}
    program.write_text(f"print({json.dumps(json.dumps(printed))})")
    (home / "config").write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    given = described()[0]["credential_provider"]()
    assert (given["access_key_id"], given["token"], given["expires_at"].year) == ("one", None, 2030)
    program.write_text("print('a secret')")
    with pytest.raises(RemoteError, match="credential_process") as caught:
        described()[0]["credential_provider"]()
    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "variable", "message"),
    [
        ("environment", None, "AWS_ACCESS_KEY_ID is not set"),
        ("profile", None, "has no keys"),
        ("imds", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID is set"),
        ("ecs", None, "not a container"),
    ],
)
def test_settings_that_contradict_the_environment_are_errors(monkeypatch, word, variable, message):
    if variable:
        monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigError, match=message):
        described(word)


def test_files_that_cannot_be_parsed_are_errors(home):
    (home / "credentials").write_text("no section\n")
    with pytest.raises(ConfigError, match="credentials cannot be parsed") as caught:
        described()
    assert "no section" not in str(caught.value)


def test_amazon_says_in_which_region_a_bucket_is(monkeypatch):
    class Buckets(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.send_response(301 if self.path == "/there" else 404)
            if self.path == "/there":
                self.send_header("x-amz-bucket-region", "eu-west-3")
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

    with served(Buckets) as url:
        monkeypatch.setattr(_aws, "_BUCKETS", url)
        assert _aws.region_of("there", os.environ) == "eu-west-3"
        assert _aws.region_of("nowhere", os.environ) is None
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        assert _aws.region_of("nowhere", os.environ) == "eu-west-1"


def test_a_machine_without_credentials_says_so(monkeypatch):
    class Metadata(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_PUT(self):
            self.send_error(403)

    with served(Metadata) as url:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", url)
        remote = opened("s3://bucket", endpoint="http://127.0.0.1:1")
        with pytest.raises(RemoteError, match="no credentials in the environment") as caught:
            list(remote.list(""))
        assert "credentials anonymous" in caught.value.hint


def test_keys_of_azure_and_other_credentials_contradict_each_other(monkeypatch):
    with pytest.raises(ConfigError, match="AZURE_STORAGE_ACCOUNT_KEY is not set"):
        list(opened("az://models", account="models", credentials="environment").list(""))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    with pytest.raises(ConfigError, match="AZURE_STORAGE_ACCOUNT_KEY is set"):
        list(opened("az://models", account="models", credentials="cli").list(""))
