"""What the pictures of the documentation are made from."""

import struct
import zlib

import pytest
from documentation.pictures import model
from documentation.pictures.page import digest, digest_in, top, with_digest
from documentation.pictures.terminal import COLUMNS, draw, screen

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("1 %\r50 %\rdone\r\n", ["done"]),
        ("bar\r\n\x1b[1A\x1b[2Kdone\r\n", ["done"]),
        ("\x1b[31mred\x1b[m\r\n", ["\x1b[31mred\x1b[m"]),
    ],
)
def test_a_terminal_keeps_what_was_not_overwritten(written: str, left: list[str]) -> None:
    assert screen(written) == left


def test_a_drawing_has_colours_loads_nothing_and_breaks_long_lines() -> None:
    drawing = draw("x", "title", [("git diff", ["\x1b[31mred\x1b[m", "a" * (COLUMNS + 3)])])
    assert "http" not in drawing.replace("http://www.w3.org/2000/svg", "")
    assert "a" * COLUMNS in drawing
    assert "a" * (COLUMNS + 1) not in drawing
    assert drawing == draw("x", "title", [("git diff", ["\x1b[31mred\x1b[m", "a" * (COLUMNS + 3)])])


def test_a_photograph_remembers_its_page() -> None:
    bare = SIGNATURE + chunk(b"IHDR", bytes(13)) + chunk(b"IEND", b"")
    assert digest_in(bare) is None
    picture = with_digest(bare, "<p>page</p>")
    assert digest_in(picture) == digest("<p>page</p>") != digest("<p>other</p>")
    assert picture.endswith(chunk(b"IEND", b""))
    assert chunk(b"tEXt", b"Page\0" + digest("<p>page</p>").encode()) in picture


def test_what_is_above_the_heat_map_is_left_out() -> None:
    page = '<h1>t</h1><div class="about"><p>a</p></div><p class="filter" hidden>f</p>map<script>s</script>'
    assert top(page) == "<h1>t</h1>map"


def test_fine_tunes_change_tensors_of_the_model_and_share_some() -> None:
    recipes, travel = model.recipes(), model.travel()
    assert {*recipes, *travel} <= set(model.shapes())
    assert set(recipes) & set(travel)
