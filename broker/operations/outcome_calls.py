"""Calls and answers about what services report, in nouns."""

from dataclasses import dataclass
from typing import TypeAlias

from broker.errors import Refusal
from broker.operations.calls import Context
from broker.outcome import Report

ReportAnswer: TypeAlias = int | Refusal
"""Position of a report's event, or why it was not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCall:
    """Reports of one service, in order."""

    context: Context
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One answer a report, in order."""

    answers: tuple[ReportAnswer, ...]
