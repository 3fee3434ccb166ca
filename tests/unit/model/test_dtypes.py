import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.model.dtypes import dtype, opaque


@pytest.mark.parametrize(
    ("name", "bits", "arithmetic"),
    [
        ("F32", 32, True),
        ("BF16", 16, True),
        ("F8_E4M3", 8, True),
        ("F4", 4, False),
        ("I64", 64, False),
        ("C64", 64, True),
    ],
)
def test_the_table_knows_width_and_arithmetic(name, bits, arithmetic):
    found = dtype(name)
    assert (found.name, found.bits, found.arithmetic) == (name, bits, arithmetic)


def test_an_opaque_name_carries_its_width_and_label():
    found = opaque(272, "Q8_0")
    assert (found.name, found.bits, found.kind) == ("opaque272:Q8_0", 272, "opaque")
    assert dtype(found.name) == found


@pytest.mark.parametrize(
    "name", ["", "f32", "skeleton", "opaque", "opaque0", "opaque8:", "opaque8:a b", "opaque9999999"]
)
def test_other_names_are_refused(name):
    with pytest.raises(FormatError):
        dtype(name)
