"""Pickles with arrays: numpy's of each protocol, and joblib's, whose arrays are between the opcodes."""

import io
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest

from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.registry import detect_format
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.pickle import FORMAT

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
MODEL = {
    "coef": np.arange(24.0).reshape(4, 6),
    "fortran": np.asfortranarray(np.arange(40, dtype="<f4").reshape(8, 5)),
    "trees": [np.zeros(9, [("left", "<i8"), ("threshold", "<f8")]), np.ones((3, 7), ">i4")],
    "text": np.array(["weight"] * 9),
    "objects": np.array([1, "x", np.ones(30)], dtype=object),
    "small": np.arange(2),
    "raw": b"booster" * 20,
    "other": {"lr": 0.1, "classes": ("a", "b")},
}
SPECS = {
    "coef": "F64 [4,6]",
    "fortran": "F32 [5,8]",
    "trees.0": "opaque128:|V16 [9]",
    "trees.1": "opaque32:>i4 [3,7]",
    "text": "opaque192:<U6 [9]",
    "objects.4.2": "F64 [30]",
    "raw": "U8 [140]",
}


def dumped(value):
    joblib = pytest.importorskip("joblib")
    target = io.BytesIO()
    joblib.dump(value, target)
    return target.getvalue()


def specs(data):
    return {name: str(spec) for name, spec in lay_out(FORMAT, data)[0].parameters.items()}


class TestPickle(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        **{f"protocol {protocol}": pickle.dumps(MODEL, protocol) for protocol in (3, 4, 5)},
        "joblib": (GOLDEN / "model.joblib").read_bytes(),
    }


class _Python2(pickle._Pickler):
    """Writes strings of bytes as Python 2 does."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012 - as the base class has it

    def save_bytes(self, value):
        size = len(value)
        self.write((b"U" + bytes([size]) if size < 256 else b"T" + size.to_bytes(4, "little")) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def test_arrays_in_pickles_of_python_2_are_found():
    target = io.BytesIO()
    _Python2(target, 2).dump({b"data": np.arange(400, dtype="u1").reshape(20, 20), b"labels": [1, 2], "b": np.ones(64)})
    assert detect_format(memoryview(target.getvalue())) is FORMAT
    assert specs(target.getvalue()) == {"data": "U8 [20,20]", "b": "F64 [64]"}
    layout, tensors = lay_out(FORMAT, target.getvalue())
    assert assemble(layout, tensors) == target.getvalue()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_of_pickles_have_their_types_and_shapes(protocol):
    data = pickle.dumps(MODEL, protocol)
    assert detect_format(memoryview(data)) is FORMAT
    # Protocols before 5 have the bytes of an array of objects, and of a Fortran array, in the same way.
    assert specs(data) == SPECS


def test_arrays_of_joblib_have_their_types_and_shapes():
    found = specs(dumped(MODEL))
    # Bytes of some size are strings of the pickle, as elsewhere; arrays of objects are a pickle in the pickle.
    assert found.pop("objects.4.2", found.pop("objects.0.4.2", None)) == "F64 [30]"
    assert found == {name: spec for name, spec in SPECS.items() if name != "objects.4.2"}


def test_an_array_that_was_exchanged_is_read_by_numpy():
    data = pickle.dumps(MODEL, 4)
    layout, tensors = lay_out(FORMAT, data)
    changed = MODEL["coef"] * 2
    loaded = pickle.loads(assemble(layout, {**tensors, "coef": changed.tobytes()}))
    assert (loaded["coef"] == changed).all()
    assert (loaded["fortran"] == MODEL["fortran"]).all()


def test_an_array_that_was_exchanged_is_read_by_joblib():
    joblib = pytest.importorskip("joblib")
    layout, tensors = lay_out(FORMAT, dumped(MODEL))
    changed = MODEL["fortran"] + 1
    loaded = joblib.load(io.BytesIO(assemble(layout, {**tensors, "fortran": changed.tobytes("F")})))
    assert (loaded["fortran"] == changed).all()
    assert (loaded["coef"] == MODEL["coef"]).all()


def test_an_added_tree_leaves_the_others_as_they_are():
    trees = [np.random.default_rng(n).random(500) for n in range(4)]
    _, before = lay_out(FORMAT, pickle.dumps(trees[:3], 4))
    _, after = lay_out(FORMAT, pickle.dumps(trees, 4))
    assert set(before.values()) < set(after.values())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pickle.dumps({"a": 1}, 4), "no arrays"),
        (pickle.dumps([bytes(99)], 4) + b"more.", "bytes follow the pickle"),
        (b"\x80\x04B\xff\xff\0\0abc.", "ends early"),
        (b"\x80\x02X\1\0\0\0aQ.", "persistent ids"),
        (b"\x80\x04\xff.", "damaged pickle"),
    ],
)
def test_other_pickles_are_not_split(data, reason):
    assert FORMAT.detect(memoryview(data))
    with pytest.raises(NotSplittable, match=reason):
        FORMAT.parse(memoryview(data))


def test_nested_arrays_of_objects_are_bounded():
    value = np.array([None], dtype=object)
    data = dumped(value)
    start = data.index(b"\x80", 1)
    *_, (_, _, last) = pickletools.genops(data[start:])
    head, inner, tail = data[:start], data[start : start + last + 1], data[start + last + 1 :]
    assert lay_out(FORMAT, head * 9 + pickle.dumps(np.ones(30), 4) + tail * 9)[1]
    data = head * 20 + inner + tail * 20
    with pytest.raises(NotSplittable, match="nested too deeply"):
        FORMAT.parse(memoryview(data))


def test_facts_are_the_pickle_without_the_arrays():
    one, other = (lay_out(FORMAT, pickle.dumps({**MODEL, "coef": MODEL["coef"] + n}, 4))[0] for n in range(2))
    assert FORMAT.facts(one) == FORMAT.facts(other)
    assert b"booster" not in FORMAT.facts(one)["pickle"]
