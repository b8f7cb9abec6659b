"""Answers of a long search, kept so that the same command asks none of its questions twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from blendmask_quantize.pipeline.stage_results import StageResults

_ANSWERS = "answers"


class StoredAnswers:
    """Answers by question; those of an interrupted run of the same job are known from the start.

    Args:
        results: of the stages of the job.
        stage: name of the search.
    """

    def __init__(self, results: StageResults, stage: str) -> None:
        self.results, self.stage = results, stage
        stored = results.load(stage)
        self.answers: dict[str, Any] = {} if stored is None else json.loads(stored[_ANSWERS].item())

    def of(self, question: str, answer: Callable[[], Any]) -> Any:
        """The answer to a question, in JSON's types.

        Args:
            question: tells it from the others.
            answer: finds it, which takes long.
        """
        if question not in self.answers:
            self.answers[question] = answer()
            self.results.save(self.stage, lambda: {_ANSWERS: np.array(json.dumps(self.answers))})
        return self.answers[question]
