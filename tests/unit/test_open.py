"""Versions of models as lazy mappings: what is read and fetched, for which library, and from which repository."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from bounds import memory_of
from git import Repo
from helpers import EMBEDDING, MLP, MODEL, model, safetensors, tensors
from helpers import Repo as Bare
from safetensors import safe_open
from safetensors.torch import load as load_bytes

import git_theta_ext
from git_theta_ext.errors import FormatError, LibraryError, MissingError, ThetaError, UsageError
from git_theta_ext.store.packs import reader

ROWS, COLUMNS = 6, 1 << 18
CHUNK_ROWS = 2
"""Rows of the large tensor in one chunk."""
SIZE = 24 << 20
AHEAD = 16 << 20
"""The most bytes that two threads decode ahead of the caller: 6 chunks of a mebibyte, and what decoders hold."""


def same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@pytest.fixture(scope="module")
def deltas(module_repo):
    """Return a repository whose second version has a large tensor that is a delta, and its values."""
    drawn = np.random.default_rng(1).normal(0, 0.02, (ROWS, COLUMNS)).astype("<f4").view("<u4") >> 16
    versions = [drawn.astype("<u2"), drawn.astype("<u2")]
    versions[1][:, ::100] += 1
    for number, values in enumerate(versions):
        content = {name: ("BF16", values.shape, (values + at).tobytes()) for at, name in enumerate(("large", "other"))}
        module_repo.write(safetensors({**content, "small": ("F32", (2,), bytes(8))}))
        module_repo.commit(f"version {number}")
    module_repo.git("tag", "new")
    module_repo.git("tag", "old", "HEAD~")
    module_repo.git("theta", "gc")
    return module_repo, torch.from_numpy(versions[1].view("<i2")).view(torch.bfloat16)


@pytest.fixture(scope="module")
def large(module_repo):
    """Return a repository with two tensors of ``SIZE`` bytes, which reads in two threads."""
    values = (np.arange(SIZE // 2, dtype="<u4") & 0x3FFF).astype("<u2")
    shape = (1 << 10, values.size >> 10)
    content = {name: ("BF16", shape, (values + at).tobytes()) for at, name in enumerate("ab")}
    module_repo.write(safetensors(content), "large.safetensors")
    module_repo.commit("large")
    module_repo.git("config", "theta.threads", "2")
    yield module_repo
    module_repo.git("config", "--unset", "theta.threads")


@pytest.fixture
def chunks_read(monkeypatch):
    """Return the stored bytes of the chunks that are read, by digest of the tensor and number of the chunk."""
    found = {}
    read = reader.PackReader.chunk

    def counted(self, path, entry, number):
        data = read(self, path, entry, number)
        found[entry.digest, number] = data.nbytes
        return data

    monkeypatch.setattr(reader.PackReader, "chunk", counted)
    return found


class TestWhatIsRead:
    def test_nothing_to_see_what_there_is(self, deltas, chunks_read):
        repo, _ = deltas
        with git_theta_ext.open(MODEL, rev="new", repository=repo.path) as opened:
            assert list(opened) == ["large", "other", "small"]
            assert str(opened.specs["large"]) == f"BF16 [{ROWS},{COLUMNS}]"
            assert opened.get_slice("large").get_shape() == [ROWS, COLUMNS]
            assert opened.get_slice("large").get_dtype() == "BF16"
            assert repr(opened) == f"<new:{MODEL}: 3 tensors, 6.3 MB>"
            assert repr(opened.get_slice("small")) == "<small: F32 [2]>"
        assert chunks_read == {}

    def test_a_tensor_and_what_it_is_a_delta_of(self, deltas, chunks_read):
        repo, values = deltas
        with git_theta_ext.open(MODEL, rev="new", repository=repo.path) as opened:
            assert torch.equal(opened["large"], values)
        assert len({digest for digest, _ in chunks_read}) == 2
        assert len(chunks_read) == 2 * ROWS // CHUNK_ROWS

    def test_of_a_slice_only_its_chunks(self, deltas, chunks_read):
        repo, values = deltas
        with git_theta_ext.open(MODEL, rev="new", repository=repo.path) as opened:
            part = opened.get_slice("large")
            assert torch.equal(part[3, 5:9], values[3, 5:9])
            assert {number for _, number in chunks_read} == {1}
            assert len(chunks_read) == 2
            assert sum(chunks_read.values()) < 0.5 * values.nbytes
            chunks_read.clear()
            assert torch.equal(part[[5, 0]], values[[5, 0]])
            assert {number for _, number in chunks_read} == {0, 2}
            chunks_read.clear()
            assert part[0:0].shape == (0, COLUMNS)
            assert chunks_read == {}

    def test_of_several_tensors_only_these(self, deltas, chunks_read):
        repo, values = deltas
        with git_theta_ext.open(MODEL, rev="old", repository=repo.path) as opened:
            found = opened.get_tensors(["small", "large"])
        assert list(found) == ["small", "large"]
        assert found["large"].shape == values.shape
        assert len({digest for digest, _ in chunks_read}) == 2

    def test_what_is_nowhere_is_named(self, deltas, tmp_path):
        repo, _ = deltas
        repo.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
        Bare(tmp_path / "bare.git").git("remote", "remove", "origin")
        with git_theta_ext.open(MODEL, rev="new", repository=tmp_path / "bare.git") as opened:
            for read in (lambda: opened["large"], lambda: opened.get_slice("large")[0], opened.fetch):
                with pytest.raises(
                    MissingError, match=r"^(large|other|small): \d of \d tensors and file layouts are not"
                ):
                    read()


class TestMemory:
    @pytest.fixture
    def opened(self, large):
        with git_theta_ext.open("large.safetensors", repository=large.path) as opened:
            opened.get_slice("a")[0]  # what is imported and kept
            yield opened

    def test_a_slice_takes_chunks(self, opened):
        assert memory_of(lambda: opened.get_slice("b")[0, 0]) < AHEAD
        assert memory_of(lambda: opened.get_slice("b")[:, 7]) < AHEAD

    def test_a_tensor_takes_its_size(self, opened):
        assert SIZE <= memory_of(lambda: opened["b"]) < SIZE + AHEAD

    def test_several_are_held_only_by_the_caller(self, large):
        with git_theta_ext.open("large.safetensors", repository=large.path, device="meta") as opened:
            assert memory_of(opened.get_tensors) < SIZE + AHEAD


class TestKindsOfTensors:
    def test_every_index_of_safetensors_selects_the_same(self, two):
        with (
            safe_open(two.path / MODEL, framework="pt") as file,
            git_theta_ext.open(MODEL, repository=two.path) as opened,
        ):
            assert opened.keys() == set(file.keys())
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                expected, found = file.get_slice(name), opened.get_slice(name)
                assert found.get_shape() == expected.get_shape()
                assert found.get_dtype() == expected.get_dtype()
            expected, found = file.get_slice(EMBEDDING), opened.get_slice(EMBEDDING)
            rows = torch.tensor([3, 1])
            for index in (
                0,
                -1,
                slice(3, 9),
                slice(None, None, 7),
                ...,
                (..., 5),
                (slice(None), slice(2, 4)),
                None,
                rows,
            ):
                assert torch.equal(found[index], expected[index])

    def test_the_names_of_other_libraries_and_files(self, two):
        with git_theta_ext.open(Path(MODEL), rev="one", repository=two.path, framework="pytorch") as opened:
            same({EMBEDDING: opened.get_tensor(EMBEDDING)}, {EMBEDDING: load_bytes(model(1))[EMBEDDING]})
            same(opened.get_tensors(), load_bytes(model(1)))
            with pytest.raises(KeyError):
                opened.get_tensors([EMBEDDING, "no such tensor"])
            with pytest.raises(KeyError):
                opened.get_slice("no such tensor")

    def test_each_access_returns_memory_of_its_own(self, two):
        with git_theta_ext.open(f"one:{MODEL}", repository=two.path) as opened:
            opened[EMBEDDING].zero_()
            opened.get_slice(EMBEDDING)[:].zero_()
            assert opened[EMBEDDING].any()

    def test_arrays_of_numpy_without_torch(self, two, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        found = git_theta_ext.load(MODEL, rev="one", repository=two.path, framework="np")
        kinds = {"F32": "float32", "BF16": ml_dtypes.bfloat16, "I64": "int64"}
        expected = {
            name: np.frombuffer(data, kinds[kind]).reshape(shape) for name, (kind, shape, data) in tensors(1).items()
        }
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].dtype == array.dtype, name
            assert np.array_equal(found[name], array)
        found[EMBEDDING][0] = 0  # it can be written
        with git_theta_ext.open(MODEL, rev="one", repository=two.path, framework="numpy") as opened:
            part = opened.get_slice(MLP[0])[1:3, :5]
            assert part.dtype == ml_dtypes.bfloat16
            assert np.array_equal(part, expected[MLP[0]][1:3, :5])
        with pytest.raises(LibraryError, match=r'framework="pt" needs torch, which cannot be imported|not installed'):
            git_theta_ext.open(MODEL, repository=two.path)

    def test_without_ml_dtypes_numpy_reads_the_rest(self, two, monkeypatch):
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
        with git_theta_ext.open(MODEL, repository=two.path, framework="np") as opened:
            assert opened[EMBEDDING].dtype == np.float32
            with pytest.raises(LibraryError, match="numpy with elements of bfloat16 needs ml_dtypes"):
                opened[MLP[0]]

    @pytest.mark.parametrize("framework", ["pt", "np"])
    def test_floats_are_converted_and_integers_kept(self, two, framework):
        with git_theta_ext.open(MODEL, repository=two.path, framework=framework, dtype="float16") as opened:
            kinds = {
                name: str(opened[name].dtype).removeprefix("torch.") for name in (EMBEDDING, MLP[0], "position_ids")
            }
            assert kinds == {EMBEDDING: "float16", MLP[0]: "float16", "position_ids": "int64"}
            assert str(opened.get_slice(MLP[0])[:2].dtype).endswith("float16")
        own = torch.bfloat16 if framework == "pt" else ml_dtypes.bfloat16
        found = git_theta_ext.load(MODEL, repository=two.path, framework=framework, dtype=own)
        assert found[EMBEDDING].dtype == own

    def test_a_device_of_torch(self, two):
        with git_theta_ext.open(MODEL, repository=two.path, device="meta") as opened:
            assert opened[EMBEDDING].device.type == "meta"
            assert opened.get_slice(EMBEDDING)[0].device.type == "meta"

    @pytest.mark.parametrize("name", ["F4", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "C64", "BOOL", "U16"])
    def test_rare_element_types(self, repo, name):
        data = bytes(range(2)) * 8 if name == "BOOL" else bytes(range(16))
        shape = {"F4": (4, 8), "C64": (2,), "U16": (2, 4)}.get(name, (2, 8))
        repo.write(safetensors({"w": (name, shape, data)}))
        repo.commit("one")
        found = git_theta_ext.load(MODEL, repository=repo.path)["w"]
        assert bytes(found.reshape(-1).view(torch.uint8).numpy()) == data
        array = git_theta_ext.load(MODEL, repository=repo.path, framework="np")["w"]
        assert array.shape == shape
        with git_theta_ext.open(MODEL, repository=repo.path) as opened:
            if name == "F4":
                values = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
                assert array.astype("f4").reshape(-1)[::2].tolist() == [*values, *(-value for value in values)]
                assert tuple(found.shape) == (4, 4)
                with pytest.raises(FormatError, match="w: elements of F4 cannot be read in part"):
                    opened.get_slice("w")
            else:
                part = opened.get_slice("w")[1:]
                assert bytes(part.reshape(-1).view(torch.uint8).numpy()) == data[8:]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"framework": "tf"}, "unknown framework 'tf'"),
            ({"device": "nowhere"}, "torch has no device 'nowhere'"),
            ({"framework": "np", "device": "cuda"}, "numpy has no device 'cuda'"),
            ({"dtype": "int8"}, "int8 is not a floating-point type"),
            ({"dtype": "floot"}, "floot is not a floating-point type"),
            ({"framework": "np", "dtype": "int8"}, "int8 is not a floating-point type"),
            ({"framework": "np", "dtype": "floot"}, "floot is not a floating-point type"),
        ],
    )
    def test_mistakes_are_named(self, options, words):
        with pytest.raises(UsageError, match=words):
            git_theta_ext.open(MODEL, **options)


class TestWhere:
    def test_a_bare_repository_and_commits_of_gitpython(self, two, tmp_path):
        two.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
        (tmp_path / "bare.git/theta").symlink_to(two.path / ".git/theta")
        with Repo(tmp_path / "bare.git") as bare:
            for rev, seed in ((bare.commit("one"), 1), ("two", 2), (None, 2)):
                with git_theta_ext.open(MODEL, rev=rev, repository=bare) as opened:
                    same(opened.get_tensors(), load_bytes(model(seed)))

    def test_the_version_in_the_index(self, two):
        two.write_model(seed=3)
        two.git("theta", "add", MODEL)
        same(git_theta_ext.load(f":{MODEL}", repository=two.path), load_bytes(model(3)))

    def test_several_threads_read_one_model(self, deltas):
        repo, values = deltas
        with git_theta_ext.open(MODEL, rev="new", repository=repo.path) as opened, ThreadPoolExecutor(4) as executor:
            part = opened.get_slice("large")
            rows = executor.map(lambda row: torch.equal(part[row], values[row]), [*range(ROWS)] * 2)
            whole = executor.map(lambda _: torch.equal(opened["large"], values), range(4))
            assert all(rows)
            assert all(whole)

    def test_a_closed_model_reads_nothing_and_holds_no_file(self, two):
        def packs():
            targets = []
            for link in Path("/proc/self/fd").iterdir():
                with suppress(OSError):  # closed by another thread
                    targets.append(str(link.readlink()))
            return [target for target in targets if target.startswith(f"{two.path.resolve()}/.git/theta/")]

        opened = git_theta_ext.open(MODEL, repository=two.path)
        assert opened[EMBEDDING].any()
        assert packs()
        opened.close()
        assert not packs()
        with pytest.raises(UsageError, match="the model is closed"):
            opened[EMBEDDING]
        with pytest.raises(ThetaError):
            git_theta_ext.open("no such file", repository=two.path)
        assert not packs()
