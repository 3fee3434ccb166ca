"""Join the questions of several threads about single objects into requests about many."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from git_theta_ext.protocol.lfs.batch import Answer
    from git_theta_ext.protocol.lfs.pointer import Pointer

_GATHER_SECONDS = 0.01


@dataclass
class _Question:
    pointer: Pointer
    answer: Answer | ThetaError | None = None


class Batches:
    """Asks one question at a time; what threads want to know meanwhile is asked next, together.

    Args:
        ask: Returns the answers about objects, by object id.
    """

    def __init__(self, ask: Callable[[Sequence[Pointer]], Mapping[str, Answer]]) -> None:
        self._ask = ask
        self._waiting: list[_Question] = []
        self._busy = False
        self._changed = Condition()

    def ask(self, pointer: Pointer) -> Answer:
        """Return the answer about an object.

        Raises:
            ThetaError: The request failed.
        """
        question = _Question(pointer)
        with self._changed:
            self._waiting.append(question)
        time.sleep(_GATHER_SECONDS)  # threads that start together ask together
        while True:
            with self._changed:
                self._changed.wait_for(lambda: question.answer is not None or not self._busy)
                if question.answer is not None:
                    break
                self._busy = True
                batch, self._waiting = self._waiting[:MAX_OBJECTS], self._waiting[MAX_OBJECTS:]
            self._answer(batch)
        if isinstance(question.answer, ThetaError):
            raise question.answer
        return question.answer

    def _answer(self, batch: Sequence[_Question]) -> None:
        failure: ThetaError | None = None
        answers: Mapping[str, Answer] = {}
        try:
            answers = self._ask(list({question.pointer: None for question in batch}))
        except ThetaError as error:
            failure = error
        finally:
            with self._changed:
                for question in batch:
                    question.answer = answers.get(question.pointer.oid) or failure or ThetaError("interrupted")
                self._busy = False
                self._changed.notify_all()
