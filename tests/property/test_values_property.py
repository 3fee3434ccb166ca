import re
import zlib

from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.model.conflict_reasons import Reason
from git_theta_ext.model.conflicts import Conflict, LayoutConflict
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.fields import ChecksumField, Extent
from git_theta_ext.model.layout import Checksum, Layout, Literal, Slice, layout_of
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import TensorSpec

odd = st.text(st.characters(categories=["Cs", "Cc", "Zl", "Zp", "Lu"]), max_size=6)
# JSON reads the two halves of a character as the character.
names = (st.text(max_size=12) | odd).filter(lambda text: not re.search("[\ud800-\udbff][\udc00-\udfff]", text))
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
specs = st.builds(
    TensorSpec,
    st.sampled_from(["F32", "BF16", "I64", "BOOL", "F8_E8M0", "opaque40:x"]).map(dtype),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
)
parameters = st.builds(Parameter, specs, digests)
sides = st.none() | parameters
reasons = st.builds(Reason, names)
layouts = st.builds(Skeleton, digests, st.integers(1, 1 << 28))
manifests = st.builds(
    Manifest,
    st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True),
    layouts,
    st.dictionaries(names, parameters, max_size=6),
    st.none()
    | st.builds(LayoutConflict, reasons, st.none() | layouts, st.lists(layouts, min_size=2, max_size=4).map(tuple)),
    st.lists(
        st.builds(Conflict, names, reasons, sides, st.lists(sides, min_size=2, max_size=4).map(tuple)),
        max_size=4,
        unique_by=lambda conflict: conflict.name,
    ).map(tuple),
)


@given(manifests)
def test_every_manifest_survives_its_text(manifest):
    data = manifest.to_bytes()
    assert Manifest.parse(data) == manifest
    assert Manifest.parse(data).to_bytes() == data


@given(
    st.lists(st.tuples(st.binary(max_size=9), names, specs, st.booleans()), max_size=6, unique_by=lambda row: row[1])
)
def test_every_layout_survives_its_skeleton_and_assembles_to_the_file(rows):
    data, fields, values = bytearray(), [], {}
    for gap, name, spec, summed in rows:
        data += gap
        fields.append(Extent(name, spec, len(data)))
        values[name] = bytes(range(spec.nbytes % 251)) * (spec.nbytes // (spec.nbytes % 251 or 1)) + bytes(spec.nbytes)
        values[name] = values[name][: spec.nbytes]
        data += values[name]
        if summed:
            fields.append(ChecksumField(name, len(data)))
            data += zlib.crc32(values[name]).to_bytes(4, "little")
    layout = layout_of(
        memoryview(bytes(data)),
        reversed(fields),
        lambda extent, seed: zlib.crc32(data[extent.offset : extent.end], seed),
    )
    again = Layout.from_skeleton(layout.to_skeleton())
    assert again == layout
    assert again.to_skeleton() == layout.to_skeleton()
    built = bytearray()
    for segment in again.segments:
        match segment:
            case Literal(piece):
                built += piece
            case Slice(name, _):
                built += values[name]
            case Checksum(name):
                built += zlib.crc32(values[name]).to_bytes(4, "little")
    assert built == data
