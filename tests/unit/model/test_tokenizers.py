"""Vocabularies are read from tokenizer.json and united: our tokens keep their rows."""

import json

import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.model.tokenizers import Tokenizer, united


def written(vocab, added=(), merges=None, kind="BPE", indent=2):
    """Return a tokenizer.json; ``added`` are tokens with numbers."""
    entries = [{"id": number, "content": token, "special": False} for token, number in added]
    model = {"type": kind, "vocab": vocab} | ({} if merges is None else {"merges": merges})
    return json.dumps({"version": "1.0", "added_tokens": entries, "model": model}, indent=indent).encode()


def parsed(*args, **named):
    return Tokenizer.parse(written(*args, **named), "tokenizer.json")


def test_added_tokens_of_another_side_get_the_next_numbers():
    ours = parsed({"a": 0, "b": 1}, [("<x>", 2), ("<both>", 3)])
    theirs = parsed({"a": 0, "b": 1}, [("<both>", 2), ("<y>", 3), ("<z>", 4)])
    merged = united(ours, [theirs])
    assert merged.ids == {"a": 0, "b": 1, "<x>": 2, "<both>": 3, "<y>": 4, "<z>": 5}
    assert merged.size == 6
    assert Tokenizer.parse(merged.text.encode(), "merged") == merged
    assert [entry["id"] for entry in json.loads(merged.text)["added_tokens"]] == [2, 3, 4, 5]
    assert merged.text.startswith('{\n  "version"')


def test_new_tokens_of_the_model_come_with_their_merges():
    ours = parsed({"a": 0, "b": 1}, merges=[["a", "b"]])
    theirs = parsed({"b": 0, "a": 1, "ba": 2}, merges=[["b", "a"], ["a", "b"]])
    merged = united(ours, [theirs])
    assert merged.ids == {"a": 0, "b": 1, "ba": 2}
    assert json.loads(merged.text)["model"]["merges"] == [["a", "b"], ["b", "a"]]


def test_the_same_vocabulary_changes_nothing():
    ours = parsed({"a": 0}, [("<x>", 1)])
    merged = united(ours, [ours, ours])
    assert json.loads(merged.text) == ours.content
    assert merged.ids == ours.ids


def test_unigram_models_have_a_list_of_tokens():
    ours = parsed([["a", -1.0], ["b", -2.0]], kind="Unigram", indent=None)
    theirs = parsed([["a", -1.0], ["b", -2.0]], [("<y>", 2)], kind="Unigram")
    assert united(ours, [theirs]).ids == {"a": 0, "b": 1, "<y>": 2}
    with pytest.raises(FormatError, match="'c' is not an added token"):
        united(ours, [parsed([["a", -1.0], ["c", -2.0]], kind="Unigram")])


def test_models_of_different_types_are_refused():
    with pytest.raises(FormatError, match="different types: BPE and WordPiece"):
        united(parsed({"a": 0}), [parsed({"b": 0}, kind="WordPiece")])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"model": {}}',
        b'{"model": {"vocab": {"a": "x"}}}',
        b'{"model": {"vocab": {"a": -1}}}',
        b'{"model": {"vocab": {"a": 1e99}}}',
        b'{"model": {"vocab": 3}}',
        b'{"model": {"vocab": [[]]}}',
        b'{"model": {"vocab": {}}, "added_tokens": [3]}',
        b'{"model": {"vocab": {"a": 0, "b": 0}}}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_tokenizer_is_refused(data):
    with pytest.raises(FormatError, match=r"^tokenizer.json"):
        Tokenizer.parse(data, "tokenizer.json")
