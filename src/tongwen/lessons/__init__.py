"""A small bilingual curriculum, generated from a seed, with an exam of unseen contents."""

from __future__ import annotations

from tongwen.lessons.course import Course, ExamItem, Taught, check_unseen
from tongwen.lessons.skills import SKILLS

__all__ = ["SKILLS", "Course", "ExamItem", "Taught", "check_unseen"]
