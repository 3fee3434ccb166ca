"""The options of the benchmarks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import FAMILIES
from benchmarks.scale import add_options

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser_of(jobs: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the arguments.

    Args:
        jobs: What can be measured.
    """
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure git-theta against its peers.")
    parser.add_argument(
        "jobs",
        nargs="*",
        choices=jobs,
        default="all",
        help="what to measure: daily jobs (all of them), the storage of a history, the gain of recoding, "
        "what merged models know, transfers by ssh and to an LFS server, the migration of a history of git-lfs, "
        "each file format, a model in shards, many small checkpoints, the commands that show a history, how the "
        "time of commands grows, single tensors in Python, what other tools answer about a change, or the values of "
        "merges against mergekit",
    )
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES), help="checkpoints (bf16 and fp32)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions; medians are shown (3)")
    parser.add_argument("--plain", action="store_true", help="also plain git, which takes minutes")
    parser.add_argument(
        "--megabytes",
        type=int,
        default=60,
        metavar="N",
        help="of the file that goes by ssh, or of a model in each format (60)",
    )
    parser.add_argument(
        "--commits", type=int, default=200, metavar="N", help="of the history that is migrated or shown (200)"
    )
    parser.add_argument("--onto", type=int, default=0, metavar="N", help="lfs: push N commits, then one more (0)")
    parser.add_argument("--rate", type=float, default=0, metavar="N", help="lfs: also push at N megabytes a second (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--update", action="append", metavar="NAME", help="gc: how versions differ (all ways)")
    parser.add_argument("--files", type=Path, metavar="DIR", help="formats: these files")
    add_options(parser.add_argument_group("scale"))
    parser.add_argument("--peers", type=Path, metavar="DIR", help="answers: environments of other tools")
    _add_history_options(parser.add_argument_group("history, recode, merge and mergekit"))
    _add_quality_options(parser.add_argument_group("quality"))
    return parser


def _add_history_options(group: Any) -> None:
    group.add_argument("--work", type=Path, metavar="DIR", help="keep what is trained there, for the next time")
    group.add_argument("--base", type=Path, metavar="FILE", help="BERT encoder to train on (one of random weights)")
    group.add_argument("--encoder", choices=["minilm", "tiny encoder"], default="minilm", help="its shapes (minilm)")
    group.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16", help="type of the saved versions (bf16)")
    group.add_argument("--versions", type=int, default=50, metavar="N", help="versions saved (50)")
    group.add_argument("--steps", type=int, default=4, metavar="N", help="optimizer steps between them (4)")
    group.add_argument("--special", type=int, default=10, metavar="N", help="every how many is special (10)")
    group.add_argument("--limit", type=float, default=1200, metavar="SECONDS", help="give a gc up after that (1200)")
    group.add_argument("--models", type=Path, metavar="DIR", help="real fine-tunes: base_DTYPE and NAME_DTYPE files")
    group.add_argument("--side", type=int, default=4096, metavar="N", help="rows of matrices in memory (4096)")


def _add_quality_options(group: Any) -> None:
    group.add_argument("--seeds", type=int, default=5, metavar="N", help="other examples and first values each (5)")
    group.add_argument("--rounds", type=int, default=5, metavar="N", help="of ColD Fusion (5)")
    group.add_argument("--classes", action="append", type=int, metavar="N", help="of a contributor there (5, 7 and 10)")
    group.add_argument("--model", action="append", choices=["perceptron", "transformer"], help="what is trained (both)")
    group.add_argument("--split", action="append", metavar="NAME", help="halves, pairs or shards (all)")
    group.add_argument("--method", action="append", metavar="NAME", help="of merging, or search (all)")
