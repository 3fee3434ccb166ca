"""The candidates of a search as text, JSON and CSV."""

from __future__ import annotations

import csv
import io
from shlex import join
from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.words import plural
from git_theta_ext.merging.rules.file import parse_override
from git_theta_ext.operations.search.winner import merge_command
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.merging.search.space import Candidate
    from git_theta_ext.operations.search.request import Request
    from git_theta_ext.operations.search.run import SearchResult
    from git_theta_ext.operations.search.trials import Tried

_MOST_ROWS = 20
_DIGITS = 6


def settings(candidate: Candidate) -> dict[str, str]:
    """Return method, options and weights of a candidate as they are written; nothing for the current branch."""
    if not candidate.branches:
        return {}
    override = parse_override("", candidate.words)
    weights = {"weights": ",".join(f"{weight:g}" for weight in override.weights)} if override.weights else {}
    return {"method": override.method or "", **override.options, **weights}


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:
    """Describe a candidate in types that ``json.dumps`` accepts."""
    return {
        "branches": list(candidate.branches),
        "words": list(candidate.words),
        "command": join(merge_command(candidate)) if candidate.branches else None,
    }


def to_json(request: Request, result: SearchResult, commit: str | None) -> dict[str, Any]:
    """Describe a search in types that ``json.dumps`` accepts."""
    best = result.best
    return {
        "model": request.model,
        "maximize": request.maximize,
        "candidates": [_row(tried) for tried in result.tried],
        "best": None if best is None else _row(best),
        "commit": commit,
    }


def record(request: Request, result: SearchResult) -> dict[str, str]:
    """Describe a search for the record of the merge: short, and without the command, which may name private paths."""
    assert result.best is not None
    failed = sum(one.evaluated.score is None for one in result.tried)
    return {
        "search": request.space.how,
        "candidates": str(len(result.tried) - 1),
        **({"failed": str(failed)} if failed else {}),
        "branches": str(len(request.branches)),
        "highest" if request.maximize else "lowest": _score(result.best),
        "before": _score(result.baseline),
    }


def lines(request: Request, result: SearchResult, commit: str | None) -> Iterator[str]:
    """Describe a search as text, the best candidates first."""
    ranked = _ranked(request, result)
    texts = [_score(tried) for tried in ranked[:_MOST_ROWS]]
    width = max(map(len, texts))
    count = len(result.tried) - 1
    known = sum(tried.known for tried in result.tried)
    yield f"{request.model}: {plural(count, 'candidate')}" + (f", {known} known from before" if known else "")
    for text, tried in zip(texts, ranked, strict=False):
        yield f"  {text:>{width}}  {_candidate(request, tried.candidate)}" + (
            f": {tried.evaluated.error}" if tried.evaluated.error else ""
        )
    if len(ranked) > _MOST_ROWS:
        yield f"  {len(ranked) - _MOST_ROWS} more are in --csv, --html and --json"
    before, best = result.baseline, ranked[0]
    if commit is None:
        yield f"nothing is merged: no candidate has a better score than the current branch, {_score(before)}"
    else:
        yield (
            f"merged as {commit[:12]}: {_candidate(request, best.candidate)};"
            f" score {_score(best)}, before {_score(before)}"
        )


def to_csv(result: SearchResult) -> str:
    """Describe a search as a table, in the order in which candidates were tried."""
    rows = [(tried, settings(tried.candidate)) for tried in result.tried]
    names = list(dict.fromkeys(name for _, own in rows for name in own))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["score", "seconds", "branches", *names, "error"])
    for tried, own in rows:
        score = "" if tried.evaluated.score is None else repr(tried.evaluated.score)
        branches = " ".join(tried.candidate.branches)
        values = [own.get(name, "") for name in names]
        writer.writerow([score, f"{tried.evaluated.seconds:.3f}", branches, *values, tried.evaluated.error])
    return text.getvalue()


def _row(tried: Tried) -> dict[str, Any]:
    return {
        **candidate_to_json(tried.candidate),
        "score": tried.evaluated.score,
        "error": tried.evaluated.error or None,
        "seconds": round(tried.evaluated.seconds, 3),
        "known": tried.known,
    }


def _ranked(request: Request, result: SearchResult) -> list[Tried]:
    sign = -1 if request.maximize else 1

    def order(tried: Tried) -> tuple[bool, float]:
        score = tried.evaluated.score
        return score is None, 0.0 if score is None else sign * score

    return sorted(result.tried, key=order)


def _score(tried: Tried) -> str:
    return "failed" if tried.evaluated.score is None else f"{tried.evaluated.score:.{_DIGITS}g}"


def _candidate(request: Request, candidate: Candidate) -> str:
    """Name a candidate; its branches only if they are not all."""
    some = set(candidate.branches) < set(request.branches) and candidate.branches
    return f"{candidate.text} of {shortlist(list(candidate.branches), 4)}" if some else candidate.text
