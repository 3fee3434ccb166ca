"""Turn prompts of experts into tokens, and tokens into rows of an embedding."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.git.objects import object_infos, read_objects
from git_theta_ext.merging.experts.file import COMMAND, MOST_TOKENS
from git_theta_ext.model.floats import to_float64
from git_theta_ext.model.tokenizers import MAX_TOKENIZER
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import replace
from git_theta_ext.util.libraries import require
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.experts.file import Expert, Mixture, Prompt
    from git_theta_ext.operations.stacking.source import SourceModel
    from git_theta_ext.operations.workspace import Workspace

_HINT = f"git theta {COMMAND} -h"
_TOKENIZER = "tokenizer.json"


def with_tokens(repo: Repository, base: SourceModel, mixture: Mixture) -> Mixture:
    """Return a mixture whose prompts are token ids, as the tokenizer of the base model encodes them.

    Raises:
        LibraryError: A prompt is a text, and the library that reads tokenizers is not installed.
        MergeError: There is no tokenizer, the prompts have too many tokens, or those of an expert have none.
    """
    experts = mixture.experts
    if any(isinstance(prompt, str) for expert in experts for prompts in expert.prompts for prompt in prompts):
        encode = _encoder(repo, base)

        def encoded(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
            return tuple(encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts)

        experts = tuple(replace(each, prompts=(encoded(each.prompts[0]), encoded(each.prompts[1]))) for each in experts)
    counts = [len(part) for expert in experts for part in prompt_tokens(expert)]
    if sum(counts) > MOST_TOKENS:
        raise MergeError(f"the prompts have {sum(counts)} tokens, and {MOST_TOKENS} are the limit", hint=_HINT)
    if mixture.gate_mode == "cheap_embed" and (empty := counts[::2].count(0)):
        raise MergeError(f"the positive_prompts of {empty} experts have no token", hint=_HINT)
    return replace(mixture, experts=experts)


def prompt_tokens(expert: Expert) -> tuple[list[int], list[int]]:
    """Return the tokens of all positive and of all negative prompts of an expert."""
    positive, negative = ([int(token) for prompt in prompts for token in prompt] for prompts in expert.prompts)
    return positive, negative


def token_rows(workspace: Workspace, base: SourceModel) -> Callable[[Sequence[int]], NDArray[np.float64]]:
    """Return a function from tokens to the rows of a model's embedding.

    Raises:
        MergeError: The model has no embedding of tokens; the function raises it if it has no such row.
        MissingError: The embedding is neither here nor on a remote.
    """
    name = f"{base.stack.removesuffix('layers.')}embed_tokens.weight"
    parameter = base.version.parameters.get(name)
    if parameter is None:
        raise MergeError(f"{base.name} has no parameter {name}, which prompts need", hint=_HINT)
    ensure_digests(workspace, {parameter.digest})
    data, spec = memoryview(workspace.store.read(parameter.digest, parameter.spec)), parameter.spec
    each = spec.nbytes // spec.shape[0]

    def rows(tokens: Sequence[int]) -> NDArray[np.float64]:
        if max(tokens) >= spec.shape[0]:
            raise MergeError(f"a prompt has the token {max(tokens)}, and {name} has {spec.shape[0]} rows", hint=_HINT)
        picked = b"".join(data[token * each : (token + 1) * each] for token in tokens)
        return to_float64(picked, spec.dtype).reshape(len(tokens), -1)

    return rows


def _encoder(repo: Repository, base: SourceModel) -> Callable[[str], tuple[int, ...]]:
    """Return a function from a text to the numbers of its tokens, with those that the tokenizer always adds."""
    path = next((path for path in base.directory.files if posixpath.basename(path) == _TOKENIZER), None)
    if path is None:
        raise MergeError(f"{base.name} has no {_TOKENIZER}: write prompts as lists of token ids", hint=_HINT)
    oid = base.directory.files[path]
    info = object_infos(repo, [oid]).get(oid)
    if info is None or info.nbytes > MAX_TOKENIZER:
        raise MergeError(f"{shown_path(path)} exceeds the limit of {MAX_TOKENIZER} bytes", hint=_HINT)
    require("tokenizers", "a prompt that is a text")
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(dict(read_objects(repo, [oid]))[oid].decode())
    except Exception as error:  # it raises Exception itself
        raise MergeError(f"{shown_path(path)} is not a tokenizer: {error}"[:300], hint=_HINT) from error
    return lambda text: tuple(tokenizer.encode(text).ids)
