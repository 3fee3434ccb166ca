"""Tar archives: those of Python's tarfile in each of its dialects, and damaged ones."""

import io
import tarfile

import pytest
import torch

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.registry import detect_format
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats._tar_members import members
from git_theta_plugins.formats.tar import FORMAT

W = torch.arange(12.0).reshape(3, 4)
LONG = "folder/" * 30 + "model.ckpt"


def saved(value, **options):
    target = io.BytesIO()
    torch.save(value, target, **options)
    return target.getvalue()


WEIGHTS = saved({"w": W, "b": torch.ones(3)})
LEGACY = saved({"w": W}, _use_new_zipfile_serialization=False)


def archive(files, dialect=tarfile.GNU_FORMAT):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=dialect) as made:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            made.addfile(info, io.BytesIO(data or b""))
    return target.getvalue()


NEMO = [("./", None), ("./model_config.yaml", b"lr: 1\n"), ("./model_weights.ckpt", WEIGHTS), ("./vocab", bytes(9000))]


class TestTar(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "as NeMo": archive(NEMO),
        "pax": archive([(LONG, WEIGHTS), ("é" * 200, LEGACY)], tarfile.PAX_FORMAT),
        "gnu": archive([(LONG, WEIGHTS), (LONG, WEIGHTS)]),
        "ustar": archive([(LONG[-150:], LEGACY), ("empty", b"")], tarfile.USTAR_FORMAT),
    }


def specs(data):
    return {name: str(spec) for name, spec in lay_out(FORMAT, data)[0].parameters.items()}


def test_one_checkpoint_gives_its_names_and_large_files_are_bytes():
    assert specs(archive(NEMO)) == {"w": "F32 [3,4]", "b": "F32 [3]", "vocab": "U8 [9000]"}
    assert detect_format(memoryview(archive(NEMO))) is FORMAT


def test_several_checkpoints_come_before_the_names_of_their_tensors_which_may_collide():
    files = [("a", WEIGHTS), ("a", LEGACY), ("c", saved({"a": 1})), ("d", WEIGHTS[:-30] * 20)]
    assert specs(archive(files)) == {
        "a/w": "F32 [3,4]",
        "a/b": "F32 [3]",
        "a/w#2": "F32 [3,4]",
        "d": f"U8 [{20 * len(WEIGHTS[:-30])}]",
    }


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        *((tarfile.USTAR_FORMAT, name) for name in ("short", LONG[-150:])),
        *((tarfile.GNU_FORMAT, name) for name in ("short", LONG, "é" * 120)),
        *((tarfile.PAX_FORMAT, name) for name in ("short", LONG, "é" * 120)),
    ],
)
def test_names_and_places_are_those_that_tarfile_reads(dialect, name):
    data = archive([(name, b"x" * 700), ("sub", None), ("last", b"y")], dialect)
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        expected = [(info.name, info.offset_data, info.size) for info in read if info.isreg()]
    assert list(members(memoryview(data))) == expected


def test_sizes_beyond_octal_digits_are_read():
    header = bytearray(archive([("x", b"")])[:512])
    header[124:136] = b"\x80" + (1 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(FormatError, match="ends after the file"):
        list(members(memoryview(bytes(header))))


def test_other_values_give_an_archive_that_torch_loads():
    layout, tensors = lay_out(FORMAT, archive(NEMO))
    changed = assemble(layout, {**tensors, "w": (W * 2).numpy().tobytes()})
    with tarfile.open(fileobj=io.BytesIO(changed)) as read:
        loaded = torch.load(read.extractfile("./model_weights.ckpt"), weights_only=True)
    assert torch.equal(loaded["w"], W * 2)


def test_facts_are_those_of_the_checkpoints_and_the_small_files():
    facts = FORMAT.facts(lay_out(FORMAT, archive(NEMO))[0])
    assert sorted(facts) == ["model_config.yaml", "model_weights.ckpt/data.pkl"]
    assert facts["model_config.yaml"] == b"lr: 1\n"
    other = [(name, saved({"w": W + 1, "b": torch.ones(3)}) if data == WEIGHTS else data) for name, data in NEMO]
    assert FORMAT.facts(lay_out(FORMAT, archive(other))[0]) == facts


GOOD = archive(NEMO)
BROKEN = {
    "cut": (GOOD[:3000], "ends after the file"),
    "checksum": (GOOD[:512] + b"x" + GOOD[513:], "header at byte 512 is damaged"),
    "no header": (GOOD[:1536] + b"x" * 512 + GOOD[2048:], "byte 1536 is not the header"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_a_damaged_archive_is_refused(data, message):
    with pytest.raises(FormatError, match=message):
        FORMAT.parse(memoryview(data))


@pytest.mark.parametrize("record", [b"x path=a\n", b"99 path=a\n", b"12 size=1x2\n", b"0 "])
def test_a_damaged_record_is_refused(record):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    data = info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512) + GOOD
    with pytest.raises(FormatError, match="damaged"):
        FORMAT.parse(memoryview(data))


def test_an_archive_without_a_checkpoint_is_opaque():
    with pytest.raises(NotSplittable, match="no file in the tar archive"):
        FORMAT.parse(memoryview(archive([("a.txt", b"text"), ("cut.pt", WEIGHTS[:-9])])))
    link = tarfile.TarInfo("sparse")
    link.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(NotSplittable, match="of the kind 'S'"):
        FORMAT.parse(memoryview(link.tobuf(tarfile.GNU_FORMAT) + GOOD))
