"""Compressed files of several writers come back to the byte, on every machine, and damaged ones are left alone."""

import gzip
import io
import pickle
import pickletools
import shutil
import subprocess
import tarfile
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.registry import built_in, detect_format, find_container
from git_theta_ext.testing import ContainerTests
from git_theta_ext.testing.containers import MemoryTarget, packed, unpacked
from git_theta_ext.testing.formats import lay_out
from git_theta_plugins.containers import _compressors, _deflate, _spool, _zip_members
from git_theta_plugins.containers._reference_deflate import ReferenceDeflate

GOLDEN = Path(__file__).parents[2] / "golden" / "containers"
RNG = np.random.default_rng(5)
FLOATS = RNG.standard_normal(9000).astype("<f4").tobytes()
TEXT = b"".join(b"layer %d has weight %d\n" % (n % 13, n * n % 97) for n in range(3000))
MIXED = FLOATS[:9000] + bytes(70_000) + TEXT[:20_000] + FLOATS[:20_000]


def archive(members, *, without_checksums=False):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            with made.open(zipfile.ZipInfo(name) if isinstance(name, str) else name, "w", force_zip64=True) as member:
                member.write(data)
        if without_checksums:
            for info in made.infolist():
                made.fp.seek(info.header_offset + 14)
                made.fp.write(bytes(4))
                info.CRC = 0
            made.fp.seek(0, io.SEEK_END)
    return target.getvalue()


def deflated(name):
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def streamed(members):
    """Return an archive whose sizes follow the members, as on a pipe."""

    class Pipe(io.RawIOBase):
        data = b""

        def writable(self):
            return True

        def write(self, piece):
            self.data += bytes(piece)
            return len(piece)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(deflated(name), data)
    return pipe.data


def tar(members, kind=tarfile.USTAR_FORMAT):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=kind) as made:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        end = made.offset
    return target.getvalue()[:end] + bytes(1024)


def stored(data):
    """Return an archive with its members stored, and with zeros for the checksums of those that were compressed."""
    found = unpacked(find_container("zip"), data)
    assert found is not None
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(io.BytesIO(found[0])) as after:
        for old, new in zip(before.infolist(), after.infolist(), strict=True):
            assert (old.filename, old.file_size, old.date_time) == (new.filename, new.file_size, new.date_time)
            assert new.compress_type == (zipfile.ZIP_DEFLATED if not old.file_size else zipfile.ZIP_STORED)
            new.CRC = old.CRC
            assert after.read(new) == before.read(old)
    return found[0]


class TestGzip(ContainerTests):
    container = find_container("gzip")
    examples = {  # noqa: RUF012 - as the suite asks
        "fastest": (gzip.compress(FLOATS, 1, mtime=7), FLOATS),
        "best": (gzip.compress(TEXT, 9, mtime=7), TEXT),
        "named": (
            b"\x1f\x8b\x08\x08\0\0\0\0\0\3model.bin\0" + gzip.compress(MIXED, 6, mtime=0)[10:],
            MIXED,
        ),
        "one byte": (gzip.compress(b"x", mtime=0), b"x"),
    }


class TestZlib(ContainerTests):
    container = find_container("zlib")
    examples = {f"level {level}": (zlib.compress(MIXED, level), MIXED) for level in range(1, 10)}  # noqa: RUF012


def with_bytes(data):
    """Return a pickle of protocol 2 in which the texts of at least 256 bytes are strings of bytes."""
    pieces, at = [], 0
    for opcode, argument, start in pickletools.genops(data):
        if opcode.name == "BINUNICODE" and len(argument) >= 256:
            text, content = argument.encode(), argument.encode("latin-1")
            pieces += [data[at:start], b"B" + len(content).to_bytes(4, "little"), content]
            at = start + 5 + len(text)
    return b"".join([*pieces, data[at:]])


ARRAYS = {"w": np.frombuffer(FLOATS, "<f4").reshape(90, 100), "b": np.arange(300), "small": np.ones(3), "é" * 70: "x"}


class TestPickleText(ContainerTests):
    container = find_container("pickle_text")
    examples = {  # noqa: RUF012 - as the suite asks
        label: (data, with_bytes(data))
        for label, data in {
            "arrays": pickle.dumps(ARRAYS, 2),
            "golden": (GOLDEN / "protocol-2.pkl").read_bytes(),
        }.items()
    }

    def test_what_has_no_long_text_or_follows_the_pickle_stays(self) -> None:
        short, long = pickle.dumps({"b": np.ones(3)}, 2), pickle.dumps(ARRAYS, 2)
        for data, content in ((short, short), (long + long, with_bytes(long) + long)):
            assert unpacked(self.container, data) == (content, b"")
            assert packed(self.container, content, b"") == data

    def test_texts_that_are_not_bytes_stay(self) -> None:
        data = pickle.dumps({"w": np.ones(99), "text": "日本" * 200}, 2)
        content, _ = unpacked(self.container, data)
        assert "日本".encode() * 200 in content
        assert content.count(b"B\x18\3\0\0") == 1

    def test_a_pickle_that_has_bytes_already_is_left_alone(self) -> None:
        assert unpacked(self.container, with_bytes(pickle.dumps(ARRAYS, 2))) is None


class TestZip(ContainerTests):
    container = find_container("zip")
    examples = {
        label: (data, stored(data))
        for label, data in {
            "as numpy": archive({deflated("a.npy"): FLOATS, deflated("b.npy"): TEXT}),
            "mixed": archive({"a": FLOATS, deflated("b"): TEXT, deflated("empty"): b""}),
            "streamed": streamed({"a": FLOATS, "b": TEXT[:100]}),
        }.items()
    } | {
        "compressed once more": (
            archive({deflated("a.gz"): gzip.compress(FLOATS), "b.z": zlib.compress(TEXT), deflated("c"): TEXT[:99]}),
            archive({"a.gz": FLOATS, "b.z": TEXT, "c": TEXT[:99]}, without_checksums=True),
        ),
    }


class TestTar(ContainerTests):
    container = find_container("tar")
    examples = {  # noqa: RUF012 - as the suite asks
        "gzip": (
            tar({"a": TEXT[:99], "b.gz": gzip.compress(FLOATS), "c": b""}),
            tar({"a": TEXT[:99], "b.gz": FLOATS, "c": b""}),
        ),
        "long names": (
            tar({"n" * 150 + ".gz": gzip.compress(TEXT), "b.z": zlib.compress(TEXT[:512])}, tarfile.GNU_FORMAT),
            tar({"n" * 150 + ".gz": TEXT, "b.z": TEXT[:512]}, tarfile.GNU_FORMAT),
        ),
        "zip": (
            tar({"a.npz": archive({deflated("a"): FLOATS}), "b": MIXED}, tarfile.PAX_FORMAT),
            tar({"a.npz": archive({"a": FLOATS}, without_checksums=True), "b": MIXED}, tarfile.PAX_FORMAT),
        ),
    }


def test_every_container_has_a_suite():
    suites = {suite.container.name for suite in (TestGzip, TestZlib, TestZip, TestTar, TestPickleText)}
    assert suites == set(built_in("containers"))


@pytest.mark.parametrize("memory", [8, 9])
@pytest.mark.parametrize("level", range(1, 10))
def test_the_own_compressor_writes_what_zlib_writes(level, memory):
    for data in (b"", b"a", b"ab" * 40, TEXT[:9000], FLOATS[:20_000]):
        compressor, own = zlib.compressobj(level, zlib.DEFLATED, -15, memory), ReferenceDeflate(level, memory)
        assert own.compress(data) + own.flush() == compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(("level", "memory"), [(1, 8), (6, 8), (9, 9)])
def test_the_own_compressor_moves_its_window_as_zlib_does(level, memory):
    data = TEXT[:30_000] + FLOATS[:36_000] + TEXT[:9000] + bytes(70_000) + FLOATS[:4000]
    compressor, own = zlib.compressobj(level, zlib.DEFLATED, -15, memory), ReferenceDeflate(level, memory)
    pieces = [data[:40_000], data[40_000:40_100], data[40_100:]]
    expected = b"".join(map(compressor.compress, pieces)) + compressor.flush()
    assert b"".join(map(own.compress, pieces)) + own.flush() == expected


def ended(compressor, data):
    return compressor.compress(data), compressor.end_block()


@pytest.mark.parametrize("level", [1, 3, 4, 6, 9])
def test_the_own_compressor_continues_after_a_dictionary_as_zlib_does(level):
    before, after = (TEXT + MIXED)[-(1 << 15) :], TEXT[2000:4000] + FLOATS[:9000] + MIXED[-9000:]
    for known, data in (
        (before, after),
        (before, TEXT[:1]),
        (TEXT[:2], TEXT),
        (before, after + TEXT[:7]),
        (after, b""),
    ):
        library, own = (kind(level, 8, known) for kind in (_compressors._Library, ReferenceDeflate))
        made, (rest, bits) = ended(own, data)
        assert (made + rest, bits) == ((found := ended(library, data))[0] + found[1][0], found[1][1])
        library, own = (kind(level, 8, known) for kind in (_compressors._Library, ReferenceDeflate))
        assert own.compress(data) + own.flush() == library.compress(data) + library.flush()


@pytest.fixture
def another_library(monkeypatch):
    """Let the zlib of this machine write other bytes, as zlib-ng does."""

    class Other(_compressors._Library):
        def __init__(self, level, memory, dictionary=b""):
            super().__init__(10 - level, 5, dictionary)

    monkeypatch.setattr(_compressors, "_Library", Other)
    _compressors.is_library_trusted.cache_clear()
    yield
    _compressors.is_library_trusted.cache_clear()


@pytest.mark.parametrize("suite", [TestGzip, TestZip])
def test_the_library_of_the_machine_changes_neither_what_is_stored_nor_what_comes_back(suite, another_library):
    for data, content in suite.examples.values():
        found = unpacked(suite.container, data)
        assert found is not None
        assert found[0] == content
        assert packed(suite.container, *found) == data


def test_another_library_is_not_trusted(another_library):
    assert not any(map(_compressors.is_library_trusted, _compressors.CANDIDATES))


def test_the_library_of_this_machine_is_zlib():
    """Else all else still works, slowly; this says why."""
    assert all(map(_compressors.is_library_trusted, _compressors.CANDIDATES))


PIECES = (Path(__file__).parents[2] / "golden" / "containers" / "pieces.safetensors.gz").read_bytes()
"""Written by pigz 2.6 with -1 -p4."""


@pytest.mark.parametrize("threads", [1, 3])
def test_a_stream_in_pieces_as_pigz_writes_it_comes_back(threads):
    """Its pieces end with 0 to 7 bits of a byte."""
    target = MemoryTarget(threads)
    recipe = find_container("gzip").unpack(memoryview(PIECES), target)
    assert recipe[:2] == b"\1\x18"
    assert gzip.decompress(PIECES) == target.data
    assert packed(find_container("gzip"), bytes(target.data), recipe) == PIECES


@pytest.mark.skipif(not shutil.which("pigz"), reason="needs pigz")
@pytest.mark.parametrize("level", range(1, 10))
def test_what_pigz_writes_comes_back(level):
    content = MIXED * 3 + TEXT * 3 + FLOATS
    data = subprocess.run(["pigz", f"-{level}", "-p3", "-n"], input=content, stdout=subprocess.PIPE, check=True).stdout
    found = unpacked(find_container("gzip"), data)
    assert found is not None
    assert found[0] == content
    assert packed(find_container("gzip"), *found) == data


def test_a_large_stream_is_recognised_by_its_beginning_and_checked_to_its_end():
    noise = RNG.bytes(300_000)
    data = gzip.compress(noise + TEXT * 4, 6, mtime=0)
    assert unpacked(find_container("gzip"), data) is not None
    cut = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = cut.compress(noise) + cut.flush(zlib.Z_SYNC_FLUSH) + cut.compress(TEXT * 4) + cut.flush()
    other = data[:10] + body + data[-8:]
    assert gzip.decompress(other) == noise + TEXT * 4
    assert unpacked(find_container("gzip"), other) is None


def test_parameters_that_would_fail_in_the_same_place_are_not_tried():
    """All levels from 4 on make the same of noise."""
    noise = RNG.bytes(3_000_000)
    cut = zlib.compressobj(6, zlib.DEFLATED, 31)
    data = cut.compress(noise) + cut.flush(zlib.Z_SYNC_FLUSH) + cut.compress(TEXT[:9]) + cut.flush()
    target = MemoryTarget()
    assert find_container("gzip").unpack(memoryview(data), target) is None
    assert target.done < 1.5 * len(noise)


def test_parameters_that_differ_where_others_failed_are_tried():
    noise = RNG.bytes(3_000_000)
    for level in (4, 9):
        data = gzip.compress(noise + TEXT * 9, level)
        found = unpacked(find_container("gzip"), data)
        assert found is not None
        assert packed(find_container("gzip"), *found) == data


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TEXT, 6) + gzip.compress(TEXT, 6),
        gzip.compress(TEXT, 6) + b"\0",
        gzip.compress(TEXT, 0),
        gzip.compress(TEXT, 6)[:-4] + b"\0\0\0\0",
        b"\x1f\x8b\x08\xe0" + gzip.compress(TEXT, 6)[4:],
        b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"x" * 100,
    ],
    ids=["two streams", "more behind it", "stored", "wrong size", "unknown flags", "endless name"],
)
def test_unusual_gzip_files_are_left_as_they_are(data):
    assert unpacked(find_container("gzip"), data) is None


def test_bombs_are_not_unpacked(monkeypatch):
    monkeypatch.setattr(_deflate, "_SLACK", 1 << 16)
    target = MemoryTarget()
    assert find_container("gzip").unpack(memoryview(gzip.compress(bytes(1 << 24), 9)), target) is None
    assert target.nbytes < 1 << 21
    target = MemoryTarget()
    bomb = archive({deflated(str(n)): bytes(1 << 20) for n in range(9)})
    assert find_container("zip").unpack(memoryview(bomb), target) is None
    assert not target.nbytes


def test_an_archive_that_states_a_wrong_checksum_or_size_is_left_as_it_is():
    data = streamed({"a": TEXT})
    at = data.index(b"PK\1\2")
    for offset, width in ((16, 4), (24, 4)):
        value = int.from_bytes(data[at + offset : at + offset + width], "little") ^ 1
        damaged = data[: at + offset] + value.to_bytes(width, "little") + data[at + offset + width :]
        assert unpacked(find_container("zip"), damaged) is None


def test_members_are_compressed_in_threads_and_give_what_one_thread_gives(monkeypatch):
    members = {deflated(str(n)): bytes([n]) * 5 + noise for n, noise in enumerate([TEXT, FLOATS, MIXED, b"x", FLOATS])}
    data = archive(members)
    met = threading.Barrier(2)

    def together(content, *args):
        if threading.current_thread() is not threading.main_thread() and content.nbytes > 6:
            met.wait(timeout=60)
        return _deflate.deflate(content, *args)

    monkeypatch.setattr(_zip_members, "deflate", together)
    content, recipe = unpacked(find_container("zip"), data)
    for threads in (1, 2, 5):
        target = MemoryTarget(threads)
        assert find_container("zip").unpack(memoryview(data), target) == recipe
        assert bytes(target.data) == content
        target = MemoryTarget(threads)
        find_container("zip").pack(memoryview(content), recipe, target)
        assert bytes(target.data) == data
        assert target.done == sum(map(len, members.values()))
        met.reset()


def test_the_parameters_of_a_member_are_those_that_were_found_in_turn(monkeypatch):
    """A member that many parameters make has those of the one before it, also if a thread did not know them yet."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for n, content in enumerate([TEXT, b"x", FLOATS, b"y"]):
            made.writestr(str(n), content)
    guessed = threading.Event()

    def late(stream, content, advance, hint):
        if content.nbytes > 1:
            assert guessed.wait(timeout=60)
        elif threading.current_thread() is not threading.main_thread():
            guessed.set()
        return _deflate.find_parameters(stream, content, advance, hint)

    monkeypatch.setattr(_zip_members, "find_parameters", late)
    target = MemoryTarget(2)
    assert find_container("zip").unpack(memoryview(data.getvalue()), target) == b"\1\x08" * 4


def test_compressed_members_wait_in_files_if_they_are_large(monkeypatch):
    monkeypatch.setattr(_spool, "_HELD", 1 << 10)
    data = archive({deflated("a"): FLOATS, deflated("b"): TEXT, deflated("c"): FLOATS[::-1]})
    found = unpacked(find_container("zip"), data)
    assert packed(find_container("zip"), *found) == data


@pytest.mark.parametrize("name", ["zip", "tar"])
def test_members_that_do_not_come_back_are_left_in_the_archive(name):
    other = gzip.compress(TEXT) + gzip.compress(TEXT)
    members = {"a.gz": other, "b.gz": gzip.compress(FLOATS)}
    data = tar(members) if name == "tar" else archive(members)
    content, recipe = unpacked(find_container(name), data)
    assert other in content
    assert FLOATS in content
    assert packed(find_container(name), content, recipe) == data
    assert unpacked(find_container("tar"), tar({"a.gz": other})) is None


def test_the_contents_of_all_members_together_are_limited(monkeypatch):
    monkeypatch.setattr(_deflate, "_SLACK", 1 << 16)
    monkeypatch.setattr(_deflate, "_RATIO", 1)
    member = gzip.compress(bytes(1 << 15))
    for made in (tar, archive):
        for count, fits in ((2, True), (5, False)):
            data = made({f"{n}.gz": member for n in range(count)})
            assert (unpacked(find_container("tar" if made is tar else "zip"), data) is not None) == fits


def test_an_archive_in_an_archive_in_an_archive_is_not_unpacked():
    inner = archive({deflated("a"): FLOATS})
    content, _ = unpacked(find_container("zip"), archive({"b.zip": archive({"a.zip": inner})}))
    assert FLOATS not in content


@pytest.mark.parametrize("damage", [b"\1", b"\xff" * 9, b"\0\0\0\0\4none\0\0\0\0", bytes(40)])
def test_a_damaged_packing_of_a_member_is_refused(damage):
    for name, suite in (("tar", TestTar), ("zip", TestZip)):
        content = next(iter(suite.examples.values()))[1]
        recipe = damage if name == "tar" else b"\6\x08" * 2 + damage
        with pytest.raises(FormatError, match=r"damaged packing|no container 'none'|no container ''"):
            packed(find_container(name), content, recipe)


def test_a_recipe_for_another_number_of_members_is_refused():
    _, content = TestZip.examples["as numpy"]
    with pytest.raises(FormatError, match="an archive of 2 members does not fit its recipe"):
        packed(find_container("zip"), content, bytes(3))


def test_the_content_of_a_compressed_npz_file_has_its_arrays_and_no_checksum():
    target = io.BytesIO()
    np.savez_compressed(target, w=np.arange(600.0), b=np.ones(3, "f4"))
    content, recipe = unpacked(find_container("zip"), target.getvalue())
    found = detect_format(memoryview(content))
    layout, tensors = lay_out(found, content)
    assert found.name == "npz"
    assert recipe == b"\6\x08" * 2
    assert {name: str(spec) for name, spec in layout.parameters.items()} == {"w": "F64 [600]", "b": "F32 [3]"}
    assert tensors["w"] == np.arange(600.0).tobytes()
    other = io.BytesIO()
    np.savez_compressed(other, w=np.arange(600.0) + 1, b=np.zeros(3, "f4"))
    again, same = unpacked(find_container("zip"), other.getvalue())
    assert same == recipe
    assert lay_out(found, again)[0].to_skeleton() == layout.to_skeleton()
