"""No bytes make a parser end otherwise than by accepting them or by a ``ThetaError``, in bounded memory and time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzer import attempt
from mutations import mutated
from targets import TARGETS

from git_theta_ext.registry import built_in

HERE = Path(__file__).parent
SECONDS = os.environ.get("THETA_FUZZ_SECONDS", "2")
"""Processor time for each parser."""


def test_every_built_in_parser_of_foreign_bytes_is_a_target():
    containers = {f"{name} container" for name in built_in("containers")}
    parsers = {*built_in("formats"), *built_in("encodings"), *containers} - {"opaque"}  # it cuts bytes and reads none
    assert parsers <= TARGETS.keys()


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_some_mutations_are_accepted_or_refused(target):
    draw = random.Random(1)
    seeds = list(TARGETS[target].seeds())
    for data in seeds:
        TARGETS[target].run(data)
    for _ in range(60):
        attempt(target, mutated(draw, seeds))


def test_the_fuzzer_starts_if_python_leaves_out_the_directory_of_the_script(tmp_path):
    command = [sys.executable, str(HERE / "fuzzer.py"), "lfs", "0", "1", str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONSAFEPATH": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_mutations_are_accepted_or_refused_within_limits(target, tmp_path):
    seed = random.SystemRandom().randrange(1 << 32)
    command = [sys.executable, str(HERE / "fuzzer.py"), target, SECONDS, str(seed), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}, input in {tmp_path}: {done.stderr}"
