"""Paths are bytes: every name that git takes works, in every locale, in a folder of any name."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from helpers import Repo, fork, model

if TYPE_CHECKING:
    from pathlib import Path

# As Python decodes bytes in UTF-8 mode: \udce8 is the byte e8, which is è in Latin-1 and no UTF-8 at all.
NAMES = ("mod\udce8le", "modèle", 'a\n"\\', ":*\u2028\x85\x1c", "-d\udc8e/\udcff ")
FOLDER = "\udce8\udca4\nfolder"
# An encoding that has no way to write most of these names.
ANOTHER_LOCALE = {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}


def test_any_name_in_any_folder_in_a_locale_that_is_not_utf8(tmp_path: Path) -> None:
    paths = {f"{name}.safetensors": number for number, name in enumerate(NAMES)}
    work, bare, clone, out = (tmp_path / FOLDER / name for name in ("work", "bare.git", "clone\udce8", "out\udce8"))

    def git(*words: str, cwd: Path = work) -> str:
        done = subprocess.run(
            ["git", *words], cwd=cwd, env={**os.environ, **ANOTHER_LOCALE}, capture_output=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
        return os.fsdecode(done.stdout)

    def write(seed: int) -> None:
        for path, number in paths.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(model(seed + number))

    def problems(seed: int, top: Path = work) -> list[str]:
        wrong = [path for path, number in paths.items() if (top / path).read_bytes() != model(seed + number)]
        return [*wrong, *git("status", "--porcelain", cwd=top).splitlines()]

    work.mkdir(parents=True)
    git("theta", "install", "--global")
    git("init", "--quiet")
    git("init", "--quiet", "--bare", str(bare))
    git("remote", "add", "origin", str(bare))
    git("theta", "track", "*.safetensors", "only\udce8è.bin")
    assert b"\nonly\xe8\xc3\xa8.bin filter" in (work / ".gitattributes").read_bytes()
    write(10)
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")
    write(20)
    git("theta", "add", *(f":(literal){path}" for path in paths))
    assert "\\u00e8" in git("theta", "status", "--json")
    git("commit", "--quiet", "--message", "two")
    git("checkout", "--quiet", "HEAD~1")
    assert problems(10) == []
    git("checkout", "--quiet", "main")
    assert problems(20) == []
    assert "diff --theta" in git("diff", "HEAD~1", "--", "*mod*")
    git("theta", "export", "HEAD~1:mod\udce8le.safetensors", str(out))
    assert out.read_bytes() == model(10)
    git("push", "--quiet", "--set-upstream", "origin", "main")
    git("theta", "status")
    git("clone", "--quiet", str(bare), str(clone))
    assert problems(20, clone) == []


def test_a_name_that_is_not_utf8_is_printed_in_the_quotes_of_git(repo: Repo) -> None:
    path, shown = "\udcff\udcfe x.safetensors", r'"\377\376 x.safetensors"'
    repo.write_model(path, seed=1)
    assert f"  {shown}" in repo.git("theta", "status")
    assert repo.git("ls-files", "--others") == shown
    repo.commit("one")
    repo.write_model(path, seed=2)
    for command in ("status", "log", "diff", "diff --stat", "diff --markdown", "du", "ls-files"):
        assert shown in repo.git("theta", *command.split()), command
    assert json.loads(repo.git("theta", "diff", "--json"))["models"][0]["path"] == path
    for command in ("diff", "log"):
        repo.git("theta", command, "--html", "page.html")
        assert rb"\377\376 x.safetensors" in repo.read("page.html"), command
    repo.commit("two")
    repo.git("mv", path, "y.safetensors")
    repo.commit("rename")
    assert f"{shown} -> y.safetensors" in repo.git("theta", "log", "-1")
    assert f"{shown} -> y.safetensors" in repo.git("theta", "diff", "HEAD~1", "HEAD")


def test_messages_about_a_name_that_cannot_be_printed_have_it_in_quotes(repo: Repo) -> None:
    path, shown, word = "\udcff x.safetensors", r'"\377 x.safetensors"', r"$'\377 x.safetensors'"

    def messages(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=repo.path, capture_output=True, check=False)
        assert done.returncode, words
        lines = (done.stdout + done.stderr).splitlines()
        # Git prints the byte itself in its own lines.
        ours = [line for line in lines if not line.startswith((b"Auto-", b"CONFLICT", b"error: ext", b"fatal"))]
        text = b"\n".join(ours).decode()
        assert shown in text, text
        return text

    fork(repo, path, [model(1), model(2), model(3)])
    repo.git("config", "theta.merge.method", "conflict")
    assert f"git theta resolve {word}" in messages("merge", "side")
    messages("theta", "mergetool")
    repo.git("theta", "resolve", "--method", "average", check=False)
    assert f"resolved {shown}" in repo.git("theta", "resolve", "--method", "ours")
    repo.git("commit", "--quiet", "--message", "merge")
    assert f"{shown} in " in repo.git("theta", "merge", "--report", "HEAD")
    repo.write(model(1)[:-4], path)
    messages("-c", "theta.strict=true", "add", path)
    (repo.path / path).unlink()
    (repo.path / path).symlink_to("elsewhere")
    messages("theta", "add", path)
