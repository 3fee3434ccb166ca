"""Answer the checkout of a git process that has merged in the shell that git starts for the filter.

The merge driver knows what git will check out. If it has all bytes of a small file, it leaves a script for the git
process, which gives git the file itself when git asks for the merged version. So no Python is started, which takes
longer than all else that the checkout does. If git asks for anything else, the script starts Python, and passes on what
it has read and answered.

The shell reads nothing but lines before it knows the size of what follows: its ``read`` takes no byte more. Git waits
only after a flush packet, which has no end of line. So the shell answers before it has read this packet, and finds it
at the beginning of the next line.

Git writes these files when it writes its index, and distrusts an entry whose file is as new as the index. So the script
dates the files back, and lets git look at them again, with a second script as the filter. It compares the bytes that it
gets with those that it gave.

Source: ``gitattributes(5)``, "Long Running Filter Process".
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.git.answer_script import CALLS, CHECKOUTS, IS_STARTED, OF_PROCESS, remove_script
from git_theta_ext.git.answers import DRAFTS
from git_theta_ext.git.objects import blob_id
from git_theta_ext.git.process import FILTER_ANSWERED, FILTER_RECEIVED
from git_theta_ext.protocol.filter_answer import success
from git_theta_ext.protocol.pktline import FLUSH, encode, encode_content
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LARGEST, _LARGEST_SUM = 1 << 22, 1 << 25
"""The most bytes of a file, and of all of them: git holds a file in memory, and the disk holds it twice."""
_MOST_FILES = 100
_BY_LINES = 2048
"""Shells read so many bytes, one by one, in the time that another program takes to start."""
_PAST_NS = 2_000_000_000
"""Files are dated back by so much: times have a resolution of two seconds at worst."""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,499}")
"""Paths that are a word of the shell, and of which a list fits into a variable."""
_BEGIN = """\
got= ended= sent=0 flush=0000 end='
'
# Fails if the next line that git sends is not $1.
next() {
    IFS= read -r line || { got=$got$line ended=1; return 1; }
    got=$got$line$end
    [ "$line" = "$1" ]
}
# Answers what git sends before its requests.
greet() {
    next 0016git-filter-client && next 000eversion=2 || return
    printf '0016git-filter-server\\n000eversion=2\\n0000'; sent=1
    next 00000015capability=clean && next 0016capability=smudge || return
    printf '0015capability=clean\\n0016capability=smudge\\n0000'; sent=2
}
"""
_HEAD = """\
# Answers requests of git process {git} for files that it has merged.
{is_started}
"""
_SMUDGE = """\
{begin}answered= files=
begun='0016git-filter-client
000eversion=2
00000015capability=clean
0016capability=smudge
'
# Succeeds if git has ended the connection, and each request was answered.
serve() {{
    greet || return
    while next "${{flush}}0013command=smudge" || [ "$flush$line" = 00000015capability=delay ]; do
        [ "$line" != 0015capability=delay ] || continue
        blob=
        next ''
        case $line in
{cases}
        *) return 1 ;;
        esac
        until next "0000$begin"; do
            case $line in
            "$oid_line") blob=$oid ;;
            ????ref=*|????treeish=*|0010can-delay=1) ;;
            *) return 1 ;;
            esac
        done
        [ "$blob" ] && [ -r "$s{calls}/$name" ] || return
        # After this, Python could not answer.
        if [ "$rest" ]; then
            head -c "$rest" >/dev/null || exit
            flush= got=${{begun}}0000
        else
            while [ $lines -gt 0 ] && read -r line; do lines=$((lines - 1)); done
            flush=0000 got=$begun  # the flush packet will be read
        fi
        cat -- "$s{calls}/$name" || exit
        answered="$answered$oid $path$end" files="$files $path"
    done
    [ "$ended" ] && [ "$line" = "$flush" ]
}}
if {of_process}; then
    if serve; then
        d=${{s%/checkout/*}}/..
        if [ ! -e "$d/MERGE_HEAD" ] && [ ! -e "$d/CHERRY_PICK_HEAD" ] && [ ! -e "$d/REVERT_HEAD" ] &&
            [ ! -e "$d/REBASE_HEAD" ]; then
            touch -c -r "$s{calls}/past" -- $files
            s=$s git -c filter.theta.process='. "$s{calls}/clean"' --literal-pathspecs add --refresh -- $files \\
                >/dev/null 2>&1 </dev/null
            rm -rf -- "$s" "$s{calls}" "${{s%/checkout/*}}/{drafts}/{git}"
            exit 0
        fi
    fi
    export {received}="$sent $got" {answered}="$answered"
fi
"""
_CLEAN = """\
# Answers git's requests for the manifests of files that it got from the filter.
{begin}greet || exit
while next "${{flush}}0012command=clean" || [ "$flush$line" = 00000015capability=delay ]; do
    [ "$line" != 0015capability=delay ] || continue
    flush=
    next ''
    case $line in
{cases}
    *) exit 1 ;;
    esac
    cmp -s -n "$rest" - "$s{calls}/$name" 0 {skip} && printf %s "$manifest" || exit
done
"""
_SKIP = len(encode(b"status=success\n"))
"""Size of what an answer has before the content and the packets around it that a request has, too."""


@dataclass(frozen=True)
class MergedFile:
    """A small file that git will check out.

    Attributes:
        path: Path relative to the top of the work tree.
        manifest: What git stores of it.
        content: The file.
    """

    path: str
    manifest: bytes
    content: bytes


def write_checkout(git_dir: Path, git: str, object_format: str, files: Sequence[MergedFile]) -> set[str]:
    """Let the shell answer git when it checks out files; if that is not possible, Python answers.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process, as ``git_theta_ext.git.answers.calling_git`` returns it.
        object_format: ``sha1`` or ``sha256``.
        files: The files.

    Returns:
        The paths of the files that the shell gives.
    """
    chosen = _chosen(files)
    pid, start, boot = git.split("-", 2)
    script = git_dir.joinpath(*CHECKOUTS, pid)
    head = _HEAD.format(git=pid, is_started=IS_STARTED % start)
    with suppress(OSError):
        if not chosen or _begins(script, head):
            return set()
        remove_script(script)
        folder = Path(f"{script}{CALLS}")
        folder.mkdir(parents=True)
        smudges, cleans = [], []
        for name, file in enumerate(chosen):
            (folder / f"{name}").write_bytes(success(file.content))
            smudges.append(_case(file, _smudge(file, name, object_format)))
            cleans.append(_case(file, _clean(file, name)))
        (folder / "past").touch()
        past = time.time_ns() - _PAST_NS
        os.utime(folder / "past", ns=(past, past))
        clean = _CLEAN.format(begin=_BEGIN, calls=CALLS, skip=_SKIP, cases="\n".join(cleans))
        (folder / "clean").write_bytes(os.fsencode(clean))
        text = _SMUDGE.format(
            begin=_BEGIN,
            calls=CALLS,
            drafts="/".join(DRAFTS[1:]),
            git=git,
            of_process=OF_PROCESS % quote(boot),
            cases="\n".join(smudges),
            received=FILTER_RECEIVED,
            answered=FILTER_ANSWERED,
        )
        replace_content(script, (head + text).encode("ascii"))
        return {file.path for file in chosen}
    return set()


def _chosen(files: Sequence[MergedFile]) -> list[MergedFile]:
    chosen, left = [], _LARGEST_SUM
    for file in files:
        if _PLAIN.fullmatch(file.path) and len(file.content) <= min(LARGEST, left):
            chosen.append(file)
            left -= len(file.content)
    return chosen[:_MOST_FILES]


def _begins(script: Path, head: str) -> bool:
    try:
        return script.read_text("ascii").startswith(head)
    except FileNotFoundError:
        return False


def _case(file: MergedFile, values: Mapping[str, object]) -> str:
    """Return the pattern of the line with the path of a file, and the variables that it sets."""
    pattern = quote(encode(f"pathname={file.path}\n".encode()).decode().removesuffix("\n"))
    return f"{pattern}) {' '.join(f'{name}={quote(str(value))}' for name, value in values.items())} ;;"


def _smudge(file: MergedFile, name: int, object_format: str) -> dict[str, object]:
    """Return the variables with which the shell answers a request for a file."""
    oid, sent = blob_id(file.manifest, object_format), encode_content(file.manifest)
    begin = sent[: sent.index(b"\n")]
    oid_line = encode(f"blob={oid}\n".encode()).decode().removesuffix("\n")
    rest = len(sent) - len(begin) - 1
    return {
        "name": name,
        "path": file.path,
        "oid": oid,
        "oid_line": oid_line,
        "begin": begin.decode(),
        **({"rest": rest} if rest > _BY_LINES else {"rest": "", "lines": file.manifest.count(b"\n") - 1}),
    }


def _clean(file: MergedFile, name: int) -> dict[str, object]:
    """Return the variables with which the shell answers a request for the manifest of a file."""
    rest = len(FLUSH + encode_content(file.content))
    return {"name": name, "rest": rest, "manifest": os.fsdecode(success(file.manifest))}
