"""Join the questions of several threads about single objects into requests about many."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING, Generic, TypeVar

from git_theta_ext.errors import ThetaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_GATHER_SECONDS = 0.01

Subject = TypeVar("Subject")
Answer = TypeVar("Answer")


@dataclass
class _Question(Generic[Subject, Answer]):
    subject: Subject
    answer: Answer | ThetaError | None = None


class Batches(Generic[Subject, Answer]):
    """Asks one question at a time; what threads want to know meanwhile is asked next, together.

    Args:
        ask: Returns the answer about each of some objects, or its error.
        most: Largest weight of the objects of a request. It may have one object of a larger weight.
        weigh: Returns the weight of an object.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Subject]], Mapping[Subject, Answer | ThetaError]],
        most: int,
        weigh: Callable[[Subject], int] = lambda _: 1,
    ) -> None:
        self._ask = ask
        self._most = most
        self._weigh = weigh
        self._waiting: list[_Question[Subject, Answer]] = []
        self._busy = False
        self._changed = Condition()

    def ask(self, subject: Subject) -> Answer:
        """Return the answer about an object.

        Raises:
            ThetaError: The request failed.
        """
        question: _Question[Subject, Answer] = _Question(subject)
        with self._changed:
            self._waiting.append(question)
        time.sleep(_GATHER_SECONDS)  # threads that start together ask together
        while True:
            with self._changed:
                self._changed.wait_for(lambda: question.answer is not None or not self._busy)
                if question.answer is not None:
                    break
                self._busy = True
                batch = self._next()
            self._answer(batch)
        if isinstance(question.answer, ThetaError):
            raise question.answer
        return question.answer

    def _next(self) -> list[_Question[Subject, Answer]]:
        """Remove the questions of the next request from those that wait."""
        weight = count = 0
        for question in self._waiting:
            weight += self._weigh(question.subject)
            if count and weight > self._most:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _answer(self, batch: Sequence[_Question[Subject, Answer]]) -> None:
        failure: ThetaError | None = None
        answers: Mapping[Subject, Answer | ThetaError] = {}
        try:
            answers = self._ask(list({question.subject: None for question in batch}))
        except ThetaError as error:
            failure = error
        finally:
            with self._changed:
                for question in batch:
                    question.answer = answers.get(question.subject) or failure or ThetaError("interrupted")
                self._busy = False
                self._changed.notify_all()
