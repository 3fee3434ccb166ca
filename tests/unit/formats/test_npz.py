"""numpy's formats, against numpy's writer and against broken headers."""

import io
import zipfile

import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.npz import FORMAT


def npy(array, **options):
    target = io.BytesIO()
    np.lib.format.write_array(target, np.asanyarray(array), **options)
    return target.getvalue()


def npz(compress=False, **arrays):
    target = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(target, **arrays)
    return target.getvalue()


def header(text, data=b"", version=1, length=None):
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(2 if version == 1 else 4, "little") + text + data


def literal(descr, shape, fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()


ARRAYS = {f"n{kind}": np.ones((2, 3), kind) for kind in "?bBhHiIqQefdFD"}


class TestNpz(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "npy": npy(np.arange(6.0).reshape(2, 3)),
        "npz": npz(x=np.arange(6.0).reshape(2, 3), y=np.ones(3, "f4")),
        "every number": npz(**ARRAYS),
        "0-d and empty": npz(a=np.array(1.5), e=np.empty((0, 4)), o=np.ones(1)),
        "fortran order": npz(f=np.asfortranarray(np.arange(6.0).reshape(2, 3))),
        "odd types": npz(
            big=np.ones(3, ">f4"), text=np.array(["é", "ab"]), raw=np.array([b"abc"]), date=np.zeros(2, "M8[ns]")
        ),
        "record": npy(np.zeros(3, [("a", "<f4"), ("b", "<i2", (2, 2)), (("title", "c"), "S3")])),
        "latin-1": npy(np.zeros(3, [("é", "<f4")])),
        "version 2": npy(np.zeros(3, "f4"), version=(2, 0)),
        "no bytes": npy(np.array(["", ""])),
        "version 3": npy(np.zeros(3, [("имя", "<f4")]), version=(3, 0)),
        "row": npy(np.ones(2)) + npy(np.arange(3, dtype="f4")),
        "row after a line": b'{"width": 3}\n' + npy(np.ones(2)) + npy(np.arange(3, dtype="f4")),
        "folders": npz(**{"a/b": np.ones(2), "é": np.ones(1)}),
    }


def specs(data):
    return {name: str(spec) for name, spec in lay_out(FORMAT, data)[0].parameters.items()}


def test_types_and_shapes_are_reported():
    assert specs(npz(x=np.zeros((2, 3), "f4"), y=np.zeros(4, "u2"), z=np.zeros((), "D"))) == {
        "x": "F32 [2,3]",
        "y": "U16 [4]",
        "z": "C128 []",
    }
    assert specs(npy(np.zeros((5,), "?"))) == {"array": "BOOL [5]"}


def test_a_fortran_ordered_array_has_its_shape_as_the_bytes_lie():
    assert specs(npy(np.asfortranarray(np.zeros((2, 3), "f4")))) == {"array": "F32 [3,2]"}


def test_what_has_no_arithmetic_is_kept_by_its_width():
    assert specs(npz(b=np.zeros(3, ">f4"), u=np.zeros(2, "U5"), d=np.zeros(2, "M8[ns]"))) == {
        "b": "opaque32:>f4 [3]",
        "u": "opaque160:<U5 [2]",
        "d": "opaque64:<M8_ns_ [2]",
    }
    assert specs(npy(np.zeros(3, [("a", "<f4"), ("b", "<i2", (2, 2))]))) == {"array": "opaque96:struct [3]"}


def test_changed_values_give_an_archive_that_numpy_still_accepts():
    data = npz(x=np.arange(6.0), y=np.ones(3))
    layout, tensors = lay_out(FORMAT, data)
    changed = assemble(layout, {**tensors, "x": np.full(6, 7.0).tobytes()})
    assert zipfile.ZipFile(io.BytesIO(changed)).testzip() is None
    assert np.load(io.BytesIO(changed))["x"].tolist() == [7.0] * 6


def test_trailing_bytes_of_a_npy_stay():
    for rest in (b"\x93NUMP", npy(np.array([{}], object), allow_pickle=True), header(literal("'|S0'", "(3,)"))):
        data = npy(np.ones(2)) + rest
        layout, tensors = lay_out(FORMAT, data)
        assert assemble(layout, tensors) == data
        assert list(tensors) == ["array"]


def test_arrays_in_a_row_are_numbered():
    rows = npy(np.ones(2)) + npy(np.arange(3, dtype="f4")) + npy(np.array(5))
    for line in (b"", b'{"width": 3}\n'):
        layout, tensors = lay_out(FORMAT, line + rows)
        assert FORMAT.detect(memoryview(line + rows))
        assert {name: str(spec) for name, spec in layout.parameters.items()} == {
            "arr_0": "F64 [2]",
            "arr_1": "F32 [3]",
            "arr_2": "I64 []",
        }
        assert tensors["arr_1"] == np.arange(3, dtype="f4").tobytes()
        assert FORMAT.facts(layout)["array"].startswith(line + b"\x93NUMPY")


@pytest.mark.parametrize("data", [b'{"a": 1}', b'{"a": 1}\n', b'{"a": 1}\n\x93NUMP', b"[]\n" + npy(np.ones(1))])
def test_other_text_is_not_a_row(data):
    assert not FORMAT.detect(memoryview(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npz(compress=True, x=np.zeros(999)), "'x.npy' is compressed"),
        (npy(np.array([{}], object), allow_pickle=True), "Python objects"),
        (npz(x=np.array([None])), "'x' has Python objects"),
        (header(b" " * 10_001), "header of 10001 bytes"),
        (header(literal("'<U99999'", "(1,)"), bytes(399996)), "elements of 399996 bytes"),
    ],
)
def test_what_cannot_be_split_says_why(data, reason):
    assert FORMAT.detect(memoryview(data))
    with pytest.raises(NotSplittable, match=reason):
        FORMAT.parse(memoryview(data))


BROKEN = {
    "no header": (b"\x93NUMPY", "no .npy header"),
    "version 9": (header(b"", version=9), "version 9"),
    "header cut": (header(b"{}", length=50), "does not end"),
    "no literal": (header(b"{nonsense"), "not a Python literal"),
    "code": (header(b"__import__('os').system('true')"), "not a Python literal"),
    "nested too deeply": (header(b"(" * 9000), "not a Python literal"),
    "not a dictionary": (header(b"[1]"), "lacks descr"),
    "shape of text": (header(literal("'<f4'", "('a',)")), "lacks descr"),
    "negative shape": (header(literal("'<f4'", "(-1,)")), "negative"),
    "huge shape": (header(literal("'<f4'", f"({1 << 62},)")), "impossible size"),
    "data cut": (npy(np.zeros(9))[:-1], "72 bytes, but 71 are in the file"),
    "unknown type": (header(literal("'hello'", "()")), "not an element type"),
    "type is a number": (header(literal("5", "()")), "not an element type"),
    "odd field": (header(literal("[('a',)]", "()")), "not a field"),
    "huge field": (header(literal("[('a', '<f4', (999999999,))]", "()")), "not the shape of a field"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_header_is_refused_by_name(data, message):
    with pytest.raises(FormatError, match=f"parameter 'array'.*{message}"):
        lay_out(FORMAT, data)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("layer.npy", data)
    with pytest.raises(FormatError, match=f"parameter 'layer'.*{message}"):
        lay_out(FORMAT, archive.getvalue())


def test_a_zip_of_other_things_is_not_detected():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("a.npy", npy(np.ones(1)))
        made.writestr("readme.txt", "hello")
    assert not FORMAT.detect(memoryview(archive.getvalue()))
    assert list(lay_out(FORMAT, archive.getvalue())[1]) == ["a"]


def test_an_archive_that_is_cut_short_is_still_detected_and_refused():
    data = npz(x=np.ones(99))
    for end in range(40, len(data), 7):
        assert FORMAT.detect(memoryview(data[:end]))
        with pytest.raises(FormatError):
            FORMAT.parse(memoryview(data[:end]))
