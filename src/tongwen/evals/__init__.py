"""Quality: the lessons' exam."""

from __future__ import annotations

from tongwen.evals.exam import ExamAnswer, ExamResult, mark, sit_exam

__all__ = ["ExamAnswer", "ExamResult", "mark", "sit_exam"]
