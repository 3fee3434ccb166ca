"""Show disk usage by version, encoding, group or parameter.

Counts what is in the local store, for versions reachable from refs, reflogs and the index.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.group import printable
from git_theta_ext.comparison.words import human_bytes, plural, shorten
from git_theta_ext.git.pathspecs import tracked_paths
from git_theta_ext.operations.maintenance.disk_usage import Usage, by_model
from git_theta_ext.operations.maintenance.usage_cache import usage_of
from git_theta_ext.operations.models import models_among
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.maintenance.disk_usage import ModelVersionShare, Share, VersionShare
    from git_theta_ext.operations.workspace import Workspace

GROUP = "maintain"
EXAMPLE = "git theta du --by group model.safetensors"

_KINDS = ("version", "encoding", "group", "parameter")
_BLOCKS = " ▏▎▍▌▋▊▉█"
_ASCII = str.maketrans({"…": "~", **dict.fromkeys("▏▎▍"), **dict.fromkeys("▌▋▊▉█", "#")})
_WIDTH = 80
_LEAST_LABEL, _LEAST_NAME, _LEAST_BAR, _MOST_BAR = 24, 16, 10, 40


@dataclass(frozen=True)
class _Row:
    """A line of the chart.

    Attributes:
        head: The version, which is never shortened; empty if lines are not about versions.
        name: What else the line is about.
        raw: The raw bytes.
        share: What is stored.
    """

    head: str
    name: str
    raw: int
    share: Share

    @property
    def label(self) -> str:
        return self.head + self.name


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="*", help="files, directories or quoted patterns; default: all")
    parser.add_argument("--by", choices=_KINDS, default="version", help="what each line shows; default: version")
    parser.add_argument("--files", action="store_true", help="also show each file of models of several files")
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Show disk usage."""
    only = tracked_paths(workspace.repo, args.paths) if args.paths else None
    usage = usage_of(workspace, only)
    models = models_among(workspace.repo, None, {version.path for version in usage.versions})
    names = {path: model.name for model in models for path in model.shards if len(model.shards) > 1}
    groups = by_model(usage.versions, names)
    lines = _lines(usage, groups, args.by, files=args.files)
    output.result({**_data(usage), "models": list(map(_model_data, groups))}, map(_shown, lines))
    return 0


def _data(usage: Usage) -> dict[str, object]:
    shares = {"encodings": usage.encodings, "groups": usage.groups, "parameters": usage.parameters}
    return {
        "raw_bytes": usage.raw,
        "unique_bytes": usage.unique,
        "stored_bytes": usage.stored,
        "absent_bytes": usage.absent,
        "disk": {**vars(usage.disk)},
        "versions": [_version_data(version) for version in usage.versions],
        **{name: [{**vars(share)} for share in group] for name, group in shares.items()},
    }


def _model_data(model: ModelVersionShare) -> dict[str, object]:
    first = model.files[0]
    files = [file.path for file in model.files]
    return {
        "path": model.path,
        "files": files,
        "commit": first.commit,
        "time": first.time,
        "raw": model.raw,
        "new": _share_data(model.new),
    }


def _version_data(version: VersionShare) -> dict[str, object]:
    return {**vars(version), "new": _share_data(version.new)}


def _share_data(share: Share) -> dict[str, object]:
    return {name: value for name, value in vars(share).items() if name != "label"}


def _lines(usage: Usage, models: Sequence[ModelVersionShare], kind: str, *, files: bool) -> Iterator[str]:
    if not usage.versions:
        yield "no checkpoint is committed or staged; git theta track PATTERN, then git theta add PATH"
    else:
        rows = list(_model_rows(models, files=files)) if kind == "version" else _rows(usage, kind)
        yield from _chart(rows, shutil.get_terminal_size((_WIDTH, 0)).columns)
        yield ""
        yield from _totals(usage)
    yield from _disk(usage)


def _rows(usage: Usage, kind: str) -> list[_Row]:
    shares = {"encoding": usage.encodings, "group": usage.groups, "parameter": usage.parameters}[kind]
    shown = printable if kind == "parameter" else str
    return [_Row("", shown(share.label), share.raw, share) for share in shares]


def _model_rows(models: Iterable[ModelVersionShare], *, files: bool) -> Iterator[_Row]:
    for model in models:
        first, several = model.files[0], len(model.files) > 1 or model.files[0].path != model.path
        count = f" ({plural(len(model.files), 'file')})" if several else ""
        yield _Row(f"{_when(first.commit, first.time):19} ", f"{shown_path(model.path)}{count}", model.raw, model.new)
        for file in model.files if several and files else ():
            yield _Row(f"{'':22}", shown_path(file.path), file.raw, file.new)


def _when(commit: str | None, seconds: int) -> str:
    return "staged" if commit is None else f"{commit[:8]} {time.strftime('%Y-%m-%d', time.localtime(seconds))}"


def _chart(rows: Sequence[_Row], width: int) -> Iterator[str]:
    largest = max((row.share.stored for row in rows), default=0)
    cells = [
        (row.label, human_bytes(row.raw), human_bytes(row.share.stored), _ratio(row.raw, row.share)) for row in rows
    ]
    cells.insert(0, ("", "raw", "stored", "ratio"))
    widths = [max(len(cell[n]) for cell in cells) for n in range(4)]
    numbers = sum(widths[1:]) + 2 * 4
    least = max([_LEAST_LABEL, *(len(row.head) + _LEAST_NAME for row in rows if row.head)])
    widths[0] = min(widths[0], max(least, width - numbers - _LEAST_BAR))
    # The bar takes the remaining width.
    room = min(_MOST_BAR, max(1, width - numbers - widths[0]))
    names = ["", *(f"{row.head}{shorten(row.name, widths[0] - len(row.head))}" for row in rows)]
    bars = ["", *(_bar(row.share.stored, largest, room) for row in rows)]
    for name, (_, raw, stored, ratio), bar in zip(names, cells, bars, strict=True):
        text = f"{name:<{widths[0]}}  {raw:>{widths[1]}}  {stored:>{widths[2]}}  {ratio:>{widths[3]}}  {bar}"
        yield text.rstrip()


def _ratio(raw: int, share: Share) -> str:
    if share.absent:
        return "partly local" if share.stored else "not local"
    return _times(raw, share.stored) if share.stored else "-"


def _times(raw: int, stored: int) -> str:
    ratio = raw / stored
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.3g}x"  # noqa: PLR2004 - three digits


def _bar(count: int, largest: int, width: int) -> str:
    if not count:
        return ""
    eighths = max(1, round(count / largest * width * 8))
    return "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()


def _shown(line: str) -> str:
    """Return a line in characters that standard output can encode."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        line.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return line.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return line


def _totals(usage: Usage) -> Iterator[str]:
    paths = len({version.path for version in usage.versions})
    what = f"{plural(len(usage.versions), 'version')} of {plural(paths, 'checkpoint')}"
    ratio = f", {_times(usage.raw, usage.stored)}" if usage.stored and not usage.absent else ""
    yield f"{what}: {human_bytes(usage.raw)} raw, {human_bytes(usage.stored)} stored{ratio}"
    if usage.raw > usage.unique:
        yield f"  {human_bytes(usage.raw - usage.unique)} are stored once and used several times"
    if usage.absent:
        yield f"  {human_bytes(usage.absent)} are not in the local store"


def _disk(usage: Usage) -> Iterator[str]:
    disk = usage.disk
    yield f"{plural(disk.packs, 'pack')} on disk: {human_bytes(disk.total)}"
    for count, what in (
        (disk.heads, "pack headers"),
        (disk.again, "redundant: also stored in fewer bytes (git theta gc)"),
        (disk.unreachable, "unreachable from refs, reflogs and the index (git theta gc)"),
        (disk.damaged, "damaged (git theta fsck)"),
    ):
        if count:
            yield f"  {human_bytes(count)} {what}"
