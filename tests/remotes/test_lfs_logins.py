"""How the remote on an LFS server shows who the user is, and to whom."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest
from benchmarks.faults import Fault
from benchmarks.lfs_host import LfsHost
from lfs_packs import KEY, NAME, PACK, key_of, opened, published

from git_theta_ext.errors import RemoteError, RemoteTimeoutError

pytestmark = pytest.mark.usefixtures("impatient")


def test_actions_get_their_own_headers_and_no_others(host, url, local, pack):
    host.user = ("me", "secret")
    remote = opened(url.replace("http://", "http://me:secret@"), local)
    remote.put(KEY, pack)
    assert remote.get(KEY, 0, 10) == PACK[:10]
    for request in host.requests("/objects/[0-9a-f]{64}$|/verify"):
        assert request.headers["authorization"].startswith("Bearer ")


HELPER = """#!/bin/sh
[ "$1" = get ] || exit 0
echo call >>{log}
printf 'username=me\\npassword=secret %s\\n' $(($(wc -l <{log})))
"""


def test_a_login_that_expires_during_a_push_is_replaced(host, url, local, pack, tmp_path):
    helper = tmp_path / "helper"
    helper.write_text(HELPER.format(log=tmp_path / "calls"))
    helper.chmod(0o755)
    subprocess.run(["git", "-C", str(local), "config", "credential.helper", str(helper)], check=True)
    host.user = ("me", "secret 1")
    remote = opened(url, local)
    remote.put(KEY, pack)
    host.user = ("me", "secret 2")
    pack.write_bytes(b"another pack")
    remote.put(key_of(b"another pack"), pack)
    assert len(host.stored()) == 2
    host.user = ("me", "a secret that the helper does not know")
    pack.write_bytes(b"a third pack")
    with pytest.raises(RemoteError, match="does not accept the credential of user 'me' from git credential") as caught:
        remote.put(key_of(b"a third pack"), pack)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
    assert (tmp_path / "calls").read_text().count("call") == 3


def in_address(url, local):
    return url.replace("http://", "http://me:hunter2@"), "the address of the remote"


def in_netrc(url, local):
    (Path(os.environ["HOME"]) / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    return url, "~/.netrc"


def in_header(url, local):
    header = f"Authorization: Basic {base64.b64encode(b'me:hunter2').decode()}"
    subprocess.run(["git", "-C", str(local), "config", "http.extraHeader", header], check=True)
    return url, "http.extraHeader"


def in_helper(url, local):
    helper = "!printf 'username=me\\npassword=hunter2\\n'; :"
    subprocess.run(["git", "-C", str(local), "config", "credential.helper", helper], check=True)
    return url, "the credential of user 'me' from git credential"


@pytest.mark.parametrize("place", [in_address, in_netrc, in_header, in_helper])
def test_a_login_that_is_refused_is_named_and_not_printed(host, url, local, pack, place):
    host.user = ("me", "another")
    address, name = place(url, local)
    with pytest.raises(RemoteError, match=f"does not accept {name}$") as caught:
        opened(address, local).put(KEY, pack)
    shown = f"{caught.value.message} {caught.value.hint}"
    assert "hunter2" not in shown
    assert base64.b64encode(b"me:hunter2").decode() not in shown


def test_redirects_to_another_host_get_no_credentials(host, url, local, pack, tmp_path):
    other = LfsHost(tmp_path / "other")
    try:
        remote = opened(url, local)
        published(remote, pack)
        (other.objects / NAME).write_bytes(PACK)
        target = f"{other.url.replace('127.0.0.1', 'localhost')}/objects/{NAME}"
        host.faults = [Fault("GET /objects", 302, {"Location": target})]
        host.faults[0].times = 100
        with pytest.raises(RemoteTimeoutError, match="expired"):
            remote.get(KEY)
        assert other.log
        assert all("authorization" not in request.headers for request in other.log)
        host.faults = [Fault("batch", 307, {"Location": f"{other.url}/x/info/lfs/objects/batch"})]
        with pytest.raises(RemoteError, match="gets no credentials"):
            opened(url, local).get(KEY, 0, 1)
    finally:
        other.close()
