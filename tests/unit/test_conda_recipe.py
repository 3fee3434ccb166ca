"""The conda recipe installs what setup.cfg describes."""

from __future__ import annotations

import configparser
import hashlib
import re
from pathlib import Path

import pytest
import yaml
from _conda_recipe import RECIPE, released

import git_theta_ext
from git_theta_ext.version import __version__

NAMES = {"msgpack": "msgpack-python", "torch": "pytorch"}
"""Names on PyPI of packages that conda-forge calls otherwise."""

LOWER_LIMITS = re.compile(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)$")


@pytest.fixture(scope="module")
def recipe() -> dict:
    return yaml.safe_load(RECIPE.read_text())


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(Path(git_theta_ext.__file__).parents[1] / "setup.cfg")
    return parser


def as_conda(requirements: str) -> set[str]:
    limits = [LOWER_LIMITS.match(line) for line in requirements.split()]
    assert all(limits)
    return {f"{NAMES.get(limit[1], limit[1])} >={limit[2]}" for limit in limits}


def test_dependencies_are_those_of_the_package_and_git(recipe, setup):
    run = recipe["requirements"]["run"]
    assert set(run) == as_conda(setup["options"]["install_requires"]) | {"python", "git >=2.31"}
    assert f'match(python, "<{setup["options"]["python_requires"].removeprefix(">=")}")' in recipe["build"]["skip"]


def test_limits_of_optional_libraries_are_those_of_the_extras(recipe, setup):
    extras = setup["options.extras_require"]
    assert set(recipe["requirements"]["run_constraints"]) == as_conda(extras["merge"]) | as_conda(extras["cloud"])


def test_version_name_and_license_are_those_of_the_package(recipe, setup):
    metadata = setup["metadata"]
    assert recipe["context"]["version"] == __version__
    assert recipe["package"]["name"] == metadata["name"].replace("_", "-")
    assert recipe["about"]["license"] == metadata["license"]
    assert recipe["about"]["license_file"] == metadata["license_files"]
    assert recipe["about"]["summary"] == metadata["description"]


def test_programs_and_data_files_are_looked_for(recipe, setup):
    (contents,) = (test["package_contents"] for test in recipe["tests"] if "package_contents" in test)
    scripts = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    assert contents["bin"] == [line.partition(" =")[0] for line in scripts]
    files = {f"{folder}/{Path(path).name}" for folder, path in setup["options.data_files"].items()}
    assert set(contents["files"]) == files


def test_the_recipe_of_a_release_takes_its_source_distribution(recipe, tmp_path):
    sdist = tmp_path / f"git_theta_ext-{__version__}.tar.gz"
    sdist.write_bytes(b"archive")
    made = yaml.safe_load(released(sdist))
    assert made["source"]["sha256"] == hashlib.sha256(b"archive").hexdigest()
    assert made["source"]["url"].endswith("/git_theta_ext-${{ version }}.tar.gz")
    assert made | {"source": recipe["source"]} == recipe
