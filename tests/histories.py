"""Repositories to migrate, written as streams of ``git fast-import``, and what a migration may not change in them."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from helpers import Repo, make_old, model

from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.git.objects import blob_id
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.reporter import LogReporter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Made = TypeVar("Made")

WHO = b"Zo\xc3\xab <zoe@example.com>"


class Stream:
    """A history under construction.

    Every commit is one line for each file: path to content, to a mode and a content, or to None to delete it.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._marks = 0
        self._objects: dict[str, bytes] = {}

    def commit(
        self,
        ref: str,
        files: Mapping[str, bytes | tuple[str, bytes] | None],
        parents: Sequence[int] = (),
        message: bytes = b"message\n",
        *,
        when: str = "1700000000 +0130",
        headers: bytes = b"",
    ) -> int:
        """Add a commit and return its mark."""
        self._marks += 1
        if not parents:
            self._pieces.append(f"reset {ref}\n".encode())
        self._pieces.append(
            b"commit %s\nmark :%d\nauthor %s %s\ncommitter %s 1700000100 -0800\n%sdata %d\n%s\n"
            % (ref.encode(), self._marks, WHO, when.encode(), WHO, headers, len(message), message)
        )
        for word, parent in zip(("from", *["merge"] * len(parents)), parents, strict=False):
            self._pieces.append(f"{word} :{parent}\n".encode())
        for path, content in files.items():
            self._file(path, content)
        return self._marks

    def _file(self, path: str, content: bytes | tuple[str, bytes] | None) -> None:
        name = json.dumps(path, ensure_ascii=False).encode()
        if content is None:
            self._pieces.append(b"D %s\n" % name)
            return
        mode, data = content if isinstance(content, tuple) else ("100644", content)
        if mode == "160000":
            self._pieces.append(b"M 160000 %s %s\n" % (data, name))
        else:
            self._pieces.append(b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), name, len(data), data))

    def tag(self, name: str, target: str, message: str = "tagged\n") -> None:
        """Add an annotated tag."""
        data = message.encode()
        self._pieces.append(
            b"tag %s\nfrom %s\ntagger %s 1700000200 +0000\ndata %d\n%s\n"
            % (name.encode(), target.encode(), WHO, len(data), data)
        )

    def lfs(self, data: bytes) -> bytes:
        """Return the pointer to some content in Git LFS, and keep the content."""
        name = hashlib.sha256(data).hexdigest()
        self._objects[name] = data
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {len(data)}\n".encode()

    def write(self, path: Path) -> Repo:
        """Make a repository of it, with main checked out and git theta configured."""
        repo = Repo(path)
        path.mkdir()
        repo.git("init", "--quiet")
        subprocess.run(["git", "fast-import", "--quiet"], cwd=path, input=b"".join(self._pieces), check=True)
        for name, data in self._objects.items():
            repo.write(data, f".git/lfs/objects/{name[:2]}/{name[2:4]}/{name}")
        if self._objects and shutil.which("git-lfs"):
            repo.git("lfs", "install", "--local")
        repo.git("theta", "install", "--local")
        repo.git("reset", "--quiet", "--hard")
        return repo


def commit_map(repo: Repo) -> dict[str, str]:
    """Return what the last migration says of commits."""
    git_dir = Path(repo.git("rev-parse", "--path-format=absolute", "--git-common-dir"))
    lines = (git_dir / "theta/migrate/commit-map").read_text().splitlines()
    assert lines[0].split() == ["old", "new"]
    return dict(map(str.split, lines[1:]))


def drop_backup(repo: Repo) -> None:
    """Delete the refs that name what was before the last migration."""
    for ref in repo.git("for-each-ref", "--format=%(refname)", "refs/original").split():
        repo.git("update-ref", "-d", ref)


def read_all(repo: Repo, oids: Sequence[str]) -> dict[str, bytes]:
    """Return the content of objects."""
    done = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=repo.path, input="\n".join(oids).encode(), capture_output=True, check=True
    )
    found, at = {}, 0
    for oid in oids:
        end = done.stdout.index(b"\n", at)
        nbytes = int(done.stdout[at:end].split()[2])
        found[oid] = done.stdout[end + 1 : end + 1 + nbytes]
        at = end + nbytes + 2
    return found


def tree(repo: Repo, commit: str) -> dict[str, tuple[str, str]]:
    """Return the mode and the id of each file of a commit."""
    entries = (line.split("\t", 1) for line in repo.git("ls-tree", "-r", "-z", commit).split("\0")[:-1])
    return {path: (fields.split(" ")[0], fields.split(" ")[2]) for fields, path in entries}


def changed_metadata(repo: Repo) -> list[str]:
    """Return the commits of the map in which more than the tree, the ids of parents and a signature has changed."""
    ids = commit_map(repo)
    contents = read_all(repo, [*ids, *ids.values()])

    def essence(oid: str) -> tuple[list[bytes], list[str], bytes]:
        head, _, message = contents[oid].partition(b"\n\n")
        lines, parents, signed = [], [], False
        for line in head.split(b"\n"):
            signed = line.startswith(b"gpgsig") or (signed and line.startswith(b" "))
            if line.startswith(b"parent "):
                parents.append(line[7:].decode())
            elif not signed and not line.startswith(b"tree "):
                lines.append(line)
        return lines, parents, message

    wrong = []
    for old, new in ids.items():
        lines, parents, message = essence(old)
        if (lines, [ids[parent] for parent in parents], message) != essence(new):
            wrong.append(old)
    return wrong


def wrong_versions(repo: Repo, was: Mapping[str, bytes] | None = None) -> list[str]:
    """Return the files that a commit of the map does not give back as they were.

    Args:
        repo: The repository.
        was: What blobs of the old history stand for, if not for themselves.
    """
    wrong: list[str] = []
    pairs: dict[tuple[str, str], str] = {}
    notes = set(repo.git("rev-list", "--glob=refs/notes/*").split())
    for old, new in commit_map(repo).items():
        if new in notes:
            continue
        before, after = tree(repo, old), tree(repo, new)
        wrong += [f"{old}:{path}" for path in before.keys() - after.keys() if not path.endswith(".gitattributes")]
        for path, (mode, oid) in after.items():
            if not path.endswith(".gitattributes"):
                wrong += [f"{new}:{path}"] if before[path][0] != mode else []
                pairs[before[path][1], oid] = f"{new}:{path}"
    return wrong + _different(repo, {pair: name for pair, name in pairs.items() if pair[0] != pair[1]}, was or {})


def _different(repo: Repo, pairs: Mapping[tuple[str, str], str], was: Mapping[str, bytes]) -> list[str]:
    """Return the names of new blobs that are not manifests of what the old blobs stand for."""
    contents = read_all(repo, [oid for pair in pairs for oid in pair])
    file = repo.path.parent / "version"
    wrong = []
    with Workspace.discover(LogReporter(logging.getLogger("test")), repo.path) as workspace:
        for (old, new), name in pairs.items():
            populate(Manifest.parse(contents[new]), workspace.store, file, Expected.at(file))
            if file.read_bytes() != was.get(old, contents[old]):
                wrong.append(name)
    return wrong


_made: dict[Callable[[Path], Any], tuple[Path, Any]] = {}


def copy_of(make: Callable[[Path], Made], path: Path) -> Made:
    """Return what a function makes at a path, which is made once and copied from then on.

    Args:
        make: Makes a repository, and may return something with it.
        path: Where the copy goes.
    """
    if make not in _made:
        kept = Path(tempfile.mkdtemp(prefix="git-theta-histories-"))
        atexit.register(shutil.rmtree, kept, ignore_errors=True)
        _made[make] = kept / "repo", make(kept / "repo")
        make_old(kept / "repo")  # git runs filters on files as old as its index, and that of Git LFS stores objects
    source, result = _made[make]
    shutil.copytree(source, path, symlinks=True)
    Repo(path).git("update-index", "-q", "--refresh")
    return Repo(path) if isinstance(result, Repo) else (Repo(path), *result[1:])


def plain_history(path: Path) -> Repo:
    """Make a repository without attributes, with all that commits, files, tags and notes can be."""
    stream = Stream()
    first = stream.commit("refs/heads/main", {"model.safetensors": model(1), "README": b"read me\n", "e.bin": model(1)})
    second = stream.commit(
        "refs/heads/main",
        {"model.safetensors": ("100755", model(2)), 'sub/ü "x".safetensors': model(3), "l": ("120000", b"README")},
        [first],
        b"no line feed",
        when="1700000000 -1130",
    )
    side = stream.commit(
        "refs/heads/side",
        {".gitattributes": b"*.txt text\n", "model.safetensors": model(4), "s": ("160000", b"1" * 40)},
        [first],
        "in Latin-1: é\n".encode("latin-1"),
        headers=b"encoding ISO-8859-1\n",
    )
    stream.commit("refs/heads/side", {".gitattributes": None}, [side], b"")
    empty = stream.commit("refs/heads/main", {}, [second], b"empty\n\n\n")
    merge = stream.commit(
        "refs/heads/main", {".gitattributes": b"*.txt text\n", "model.safetensors": model(4)}, [empty, side]
    )
    stream.commit("refs/heads/other", {"model.safetensors": model(2), "empty.safetensors": b""}, [], b"a second root\n")
    files = {"model.safetensors": model(5), "broken.safetensors": b"x" * 99, "l": None, "l/below": b"a folder now\n"}
    last = stream.commit("refs/heads/main", files, [merge])
    stream.tag("v1", f":{second}")
    stream.tag("signed", f":{last}", "signed\n-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n")
    repo = stream.write(path)
    repo.git("tag", "light", "main~1")
    repo.git("tag", "-a", "-m", "a tag of a tag", "nested", "v1")
    signed = repo.run("cat-file", "commit", "other").stdout.replace("\n\n", "\ngpgsig -----BEGIN\n abc\n\n", 1)
    repo.git("update-ref", "refs/heads/other", repo.git("hash-object", "-t", "commit", "-w", "--stdin", input=signed))
    repo.git("notes", "add", "-m", "a note", "main~1")
    repo.git("notes", "add", "-m", "another note", "side")
    return repo


LFS = "filter=lfs diff=lfs merge=lfs -text"


def lfs_history(path: Path) -> tuple[Repo, dict[str, bytes]]:
    """Make a repository that moved to Git LFS, with what the blobs of pointers stand for."""
    stream = Stream()
    models = {n: model(n) for n in range(1, 7)}
    first = stream.commit("refs/heads/main", {"model.safetensors": models[1], "README": b"read me\n"})
    attributes = f"[attr]big {LFS}\n*.safetensors {LFS}\n*.bin {LFS} lockable\n".encode()
    second = stream.commit(
        "refs/heads/main",
        {
            ".gitattributes": attributes,
            "model.safetensors": stream.lfs(models[2]),
            "a.bin": stream.lfs(b"no model"),
            "sub/.gitattributes": b"*.safetensors big\n",
            "sub/one.safetensors": stream.lfs(models[3]),
        },
        [first],
    )
    third = stream.commit(
        "refs/heads/main", {"model.safetensors": stream.lfs(models[4]), "empty.safetensors": b""}, [second]
    )
    side = stream.commit("refs/heads/side", {"model.safetensors": stream.lfs(models[5])}, [second])
    files = {"model.safetensors": ("100755", stream.lfs(models[6])), "empty.safetensors": None}
    stream.commit("refs/heads/main", files, [third, side])
    repo = stream.write(path)
    return repo, {blob_id(stream.lfs(data), "sha1"): data for data in models.values()}
