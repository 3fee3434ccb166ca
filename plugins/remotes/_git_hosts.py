"""What is special about some hosts of git repositories."""

from __future__ import annotations

from urllib.parse import urlsplit

from git_theta_ext.protocol.lfs.endpoints import ssh_address


def on_hugging_face(address: str) -> bool:
    """Return whether a git remote is on Hugging Face.

    It lists branches and tags only, removes LFS objects that no listed commit names, and limits files in git to 10 MB.
    """
    ssh = ssh_address(address)
    host = ssh.host if ssh else urlsplit(address).hostname or ""
    return host in {"huggingface.co", "hf.co"}
