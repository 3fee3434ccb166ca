"""Old versions of ``.gitattributes`` give models to git theta and change nothing for other files."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_theta_ext.operations.migrate.attributes import Tracked, from_theta, macros_of, relative, to_theta

OURS = "filter=theta diff=theta merge=theta -text"
LFS = "filter=lfs diff=lfs merge=lfs -text"
MODELS = Tracked(["*.safetensors"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"*.safetensors {OURS}\n"),
        ("# a comment", f"# a comment\n*.safetensors {OURS}\n"),
        (f"*.safetensors {LFS}\n*.bin {LFS}\n", f"*.bin {LFS}\n*.safetensors {OURS}\n"),
        (f"*.safetensors {LFS} lockable\r\n", f"*.safetensors lockable\r\n*.safetensors {OURS}\r\n"),
        (f'"*.safetensors" {LFS}\n', f"*.safetensors {OURS}\n"),
        (f"[attr]lfs {LFS}\n*.safetensors lfs\n", f"[attr]lfs {LFS}\n*.safetensors lfs\n*.safetensors {OURS}\n"),
        (f"*.safetensors {OURS}\n* text\n", f"* text\n*.safetensors {OURS}\n"),
        ("*.safetensors filter=other\n", f"*.safetensors {OURS}\n"),
    ],
)
def test_our_line_comes_last(before: str, after: str) -> None:
    assert to_theta(before, MODELS) == after
    assert to_theta(after, MODELS) == after


@pytest.mark.parametrize(
    "after", ["", "*.txt text\n", "*.safetensors.index*.json merge=theta\n", f"a/*.safetensors {OURS}"]
)
@pytest.mark.parametrize("pattern", ["*.safetensors", "m.safetensors", "a/*.safetensors", "/a/m.safetensors"])
def test_what_is_ours_already_stays_as_it_is(pattern: str, after: str) -> None:
    text = f"*.bin filter=lfs\n*.safetensors {OURS}\n{after}"
    assert to_theta(text, Tracked([pattern])) == text


@pytest.mark.parametrize(
    "text",
    [
        f"*.safetensors {OURS}\nm.* -filter\n",
        "*.safetensors filter=theta\n",
        f"a.safetensors {OURS}\n",
        f"m?safetensors {OURS}\n",
    ],
)
def test_a_pattern_that_another_line_may_override_gets_its_line(text: str) -> None:
    assert to_theta(text, Tracked(["m.safetensors"])) == f"{text}m.safetensors {OURS}\n"


def test_an_excluded_pattern_keeps_what_it_had() -> None:
    tracked = Tracked(["*.pt"], ["old/*.pt"])
    assert to_theta("", tracked) == f"*.pt {OURS}\nold/*.pt !filter !diff !merge !text\n"
    assert to_theta(f"*.pt {LFS}\n", tracked) == f"*.pt {OURS}\nold/*.pt {LFS}\n"
    assert to_theta(f"*.pt {LFS}\nold/*.pt -filter\n", tracked) == f"*.pt {OURS}\nold/*.pt -filter\n"


def test_a_file_in_a_folder_gets_our_line_if_it_sets_filters_itself() -> None:
    assert to_theta("*.txt text\n", MODELS, "sub") == "*.txt text\n"
    assert to_theta("*.bin filter=lfs\n", MODELS, "sub") == f"*.bin filter=lfs\n*.safetensors {OURS}\n"
    assert to_theta("* lfs\n", MODELS, "sub", {"lfs"}) == f"* lfs\n*.safetensors {OURS}\n"
    assert to_theta("* -filter\n", Tracked(["a/*.pt"]), "b") == "* -filter\n"
    assert to_theta("* -filter\n", Tracked(["a/*.pt"]), "a") == f"* -filter\n/*.pt {OURS}\n"
    assert macros_of("[attr]lfs filter=lfs\n[attr]x text\n [attr]no -filter\n") == {"lfs", "no"}


def test_the_way_back() -> None:
    text = f"*.txt text\n*.pt {OURS} theta-format=torch_zip\n*.npz {OURS} lockable\n"
    assert from_theta(text, lfs=True) == f"*.txt text\n*.pt {LFS}\n*.npz {LFS} lockable\n"
    assert from_theta(text, lfs=False) == "*.txt text\n*.npz lockable\n"


NAMES = st.sampled_from(["a", "b", "m.pt", "*", "*.pt", "?", "[ab]"])
PATHS = [f"{folder}{name}" for folder in ("a/", "b/", "a/b/", "a/a/b/") for name in ("m.pt", "a", "x.pt", "b/m.pt")]


@settings(max_examples=12)
@given(patterns=st.lists(st.lists(NAMES | st.just("**"), min_size=1, max_size=4).map("/".join), min_size=4, max_size=8))
def test_a_pattern_of_the_top_says_the_same_in_a_folder(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str]
) -> None:
    top = tmp_path_factory.mktemp("top")
    subprocess.run(["git", "init", "--quiet", "--template=", str(top)], check=True)
    (top / "a/b").mkdir(parents=True)
    lines = {folder: [] for folder in ("", "a", "a/b")}
    for n, pattern in enumerate(patterns):
        for folder, found in lines.items():
            found += [f"{below} x{n}{folder.replace('/', '-')}" for below in relative(pattern, folder)]
    for folder, found in lines.items():
        (top / folder / ".gitattributes").write_text("\n".join(found) + "\n")
    for folder in ("a", "a/b"):
        paths = [path for path in PATHS if path.startswith(f"{folder}/")]
        asked = [name for n in range(len(patterns)) for name in (f"x{n}", f"x{n}{folder.replace('/', '-')}")]
        said = subprocess.run(
            ["git", "check-attr", *asked, "--", *paths], cwd=top, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        values = [line.rsplit(": ", 1)[1] for line in said]
        assert values[::2] == values[1::2], folder
