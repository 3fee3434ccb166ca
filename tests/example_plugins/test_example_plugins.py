"""The example plug-ins of docs/plugins.md: installed, found by their entry points, and conforming."""

from __future__ import annotations

import bz2
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from helpers import safetensors

from git_theta_ext import registry
from git_theta_ext.interfaces import (
    ExternalDataFormat,
    ExternalTensor,
    PartialFormat,
    RemoteContext,
    TensorSpec,
    UpdateFile,
    UpdateTensor,
)
from git_theta_ext.testing import (
    ContainerTests,
    EncodingTests,
    FormatTests,
    PairMethodTests,
    RemoteTests,
    StatisticsTests,
    UpdateKindTests,
)
from git_theta_ext.testing.formats import lay_out

if TYPE_CHECKING:
    from helpers import Repo

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "plugins.md"


def test_no_example_has_the_name_of_a_built_in_plugin() -> None:
    text = (HERE / "pyproject.toml").read_text()
    groups = re.findall(r'\[project.entry-points."git_theta_ext\.(\w+)"\]\n((?:\w+ = .*\n)+)', text)
    assert len(groups) == 7
    for group, lines in groups:
        names = {line.split(" = ")[0] for line in lines.splitlines()}
        assert names
        assert not names & set(registry.built_in(group)), group


def floats(*values: float) -> UpdateTensor:
    return UpdateTensor(TensorSpec.of("F32", (len(values),)), memoryview(struct.pack(f"<{len(values)}f", *values)))


def bag(**vectors: tuple[float, ...]) -> bytes:
    records = (
        struct.pack("<HQ", len(name), len(vector)) + name.encode() + struct.pack(f"<{len(vector)}f", *vector)
        for name, vector in vectors.items()
    )
    return b"BAG1" + b"".join(records)


class TestBag(FormatTests):
    examples: ClassVar = {"two": bag(weight=(1.0, 2.0, 3.0), bias=(0.5,)), "empty vector": bag(none=()), "empty": bag()}

    @property
    def format(self) -> Any:
        return registry.find_format("bag")


def shelf(*vectors: tuple[str, str, int, bool]) -> bytes:
    """Return a shelf of vectors with 9 values, given by name, file, offset there, and whether they are reversed."""
    heads = (
        struct.pack("<?HHQQ", reverse, len(name), len(file), 9, offset) + name.encode() + file.encode()
        for name, file, offset, reverse in vectors
    )
    values = (struct.pack("<9f", *range(9)) for _, file, _, _ in vectors if not file)
    return b"SHELF1" + struct.pack("<H", len(vectors)) + b"".join([*heads, *values])


class TestShelf(FormatTests):
    examples: ClassVar = {
        "both": shelf(("here", "", 0, False), ("back", "", 0, True), ("there", "data", 4, False)),
        "only others": shelf(("there", "data", 0, False)),
        "empty": shelf(),
    }

    @property
    def format(self) -> Any:
        return registry.find_format("shelf")

    def test_it_says_more_of_its_tensors(self) -> None:
        found = registry.find_format("shelf")
        assert isinstance(found, PartialFormat)
        assert isinstance(found, ExternalDataFormat)
        layout, _ = lay_out(found, self.examples["both"])
        assert found.partial(layout) == {"back": "is in reverse order"}
        assert found.external_tensors(layout) == [ExternalTensor("there", TensorSpec.of("F32", (9,)), "data", 4)]


class TestBzip2(ContainerTests):
    examples: ClassVar = {str(level): (bz2.compress(b"content" * 99, level), b"content" * 99) for level in (1, 9)}

    @property
    def container(self) -> Any:
        return registry.find_container("bzip2")


class TestShift(EncodingTests):
    specs = ("F32", "BF16", "F64", "F8_E4M3")
    params: ClassVar = {"amount": 0.25}
    grows = False

    @property
    def encoding(self) -> Any:
        return registry.find_encoding("shift")


class TestLoraBalanced(PairMethodTests):
    @pytest.fixture
    def method(self) -> Any:
        return registry.find_pair("lora_balanced")


class TestSqlite(RemoteTests):
    @pytest.fixture
    def remote(self, tmp_path: Path) -> Any:
        return registry.remote_of_scheme("sqlite").open(f"sqlite://{tmp_path}/objects.db", {}, RemoteContext())


class TestInputNorm(StatisticsTests):
    @pytest.fixture
    def kind(self) -> Any:
        return registry.find_statistics("input_norm")


class TestShiftUpdate(UpdateKindTests):
    @pytest.fixture
    def kind(self) -> Any:
        return registry.find_update("shift")

    @pytest.fixture
    def parameters(self) -> Any:
        return {"layer.weight": TensorSpec.of("F32", (3, 5)), "layer.bias": TensorSpec.of("BF16", (3,))}

    @pytest.fixture
    def file(self) -> UpdateFile:
        return UpdateFile("shifts", {"layer.weight.shift": floats(0.5), "bias.shift": floats(-2.0)})


def test_every_group_of_entry_points_has_an_example() -> None:
    for group, noun in registry._KINDS.items():
        others = set(registry.names(group)) - set(registry.built_in(group))
        assert others, noun
        assert all(registry.summaries(group)[name] for name in others)


def test_the_page_shows_whole_files_of_the_package() -> None:
    files = {path.read_text() for path in HERE.rglob("*") if path.suffix in {".py", ".toml"}}
    blocks = re.findall(r"^```(?:python|toml)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    plugins = {path.read_text() for path in (HERE / "example_plugins").glob("[!_]*.py")}
    assert plugins <= set(blocks) <= files


def test_tensors_in_other_files_belong_to_the_model(
    repo: Repo, installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    repo.git("theta", "track", "*.shelf", "data")
    repo.write(shelf(("here", "", 0, False), ("back", "", 0, True), ("there", "data", 4, False)), "model.shelf")
    repo.write(bytes(4) + struct.pack("<9f", *range(9)), "data")
    repo.commit("a shelf")
    repo.write(bytes(4) + struct.pack("<9f", *range(8), 5), "data")
    assert "there" in repo.git("theta", "diff", "--", "data")
    with pytest.raises(AssertionError, match="'back' is in reverse order, so it is not converted"):
        repo.git("theta", "export", "--to", "npz", "HEAD:model.shelf", str(tmp_path / "all.npz"))
    repo.git("theta", "export", "--to", "npz", "--param", "here", "HEAD:model.shelf", str(tmp_path / "some.npz"))


def test_git_theta_uses_them(repo: Repo, installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    repo.git("theta", "track", "*.bag")
    (repo.path / "model.bag").write_bytes(bag(weight=tuple(range(600)), bias=(0.5,)))
    repo.commit("a bag")
    assert "format bag" in repo.git("show", "HEAD:model.bag")
    shifts = safetensors({"weight.shift": ("F32", (), struct.pack("<f", 0.25))})
    (repo.path / "shifts.safetensors").write_bytes(shifts)
    repo.git("theta", "add", "model.bag", "--update", "shift=shifts.safetensors")
    assert (repo.path / "model.bag").read_bytes() == bag(weight=tuple(0.25 + n for n in range(600)), bias=(0.5,))
    repo.git("commit", "-q", "-m", "shifted")
    assert "shift" in repo.git("theta", "du", "--by", "encoding")
    repo.git("config", "theta.remote.origin.url", f"sqlite://{tmp_path}/objects.db")
    repo.git("remote", "add", "origin", str(tmp_path / "nowhere"))
    repo.git("theta", "push", "origin")
    assert list(
        registry.remote_of_scheme("sqlite").open(f"sqlite://{tmp_path}/objects.db", {}, RemoteContext()).list("packs/")
    )
