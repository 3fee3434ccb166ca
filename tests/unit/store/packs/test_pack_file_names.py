"""The name of a pack is the SHA-256 of its bytes, however many are named together."""

from __future__ import annotations

import hashlib
import random
from itertools import pairwise

import pytest

from git_theta_ext.coding import kernels
from git_theta_ext.store.packs.file_names import names_of

PIECE = 1 << 17
SIZES = [0, 1, 55, 56, 63, 64, 65, 119, 120, PIECE - 9, PIECE - 8, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 70]


@pytest.fixture(params=["compiled", "hashlib"])
def files(request, tmp_path, monkeypatch):
    if request.param == "hashlib":
        monkeypatch.setattr(kernels, "sha256", None)
    made = []
    for size in SIZES:
        made.append(tmp_path / str(size))
        made[-1].write_bytes(random.Random(size).randbytes(size))
    return made


def expected(paths):
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_files_of_any_number_and_size(files):
    for count in (0, 1, 2, 3, len(files)):
        assert names_of(files[:count]) == expected(files[:count])


def test_pairs_of_any_sizes_in_any_order(files):
    for first, second in [*pairwise(files), *pairwise(files[::-1]), (files[0], files[-1]), (files[-1], files[0])]:
        assert names_of([first, second]) == expected([first, second])


def test_a_file_that_is_gone_is_an_error(files, tmp_path):
    with pytest.raises(FileNotFoundError):
        names_of([files[0], tmp_path / "gone"])
