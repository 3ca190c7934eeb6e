"""Items of what services report, and of tasks that drift."""

from dataclasses import dataclass
from datetime import datetime

from broker.outcome import Report, ReportKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportUnused:
    """The service has not reported under this id. Refused with REPORT_ID_REUSED."""

    service: str
    report: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeFits:
    """The service has reported this use of this credential, and the outcome can follow what was said of it last.

    Refused with USE_UNKNOWN or OUTCOME_CONTRADICTED.
    """

    service: str
    credential: str
    use: str
    kind: ReportKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSuspended:
    """The task exists, is not over at `now`, and is suspended, or its drift waits for a person.

    Refused as TaskAlive, or with TASK_NOT_SUSPENDED.
    """

    task: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AddReport:
    """Remember a report as long as the credential that it is about; guard it with ReportUnused."""

    service: str
    report: Report
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CountDrift:
    """Count a refusal of what lies outside a task, and of which action; only the last `keep` are remembered."""

    task: str
    at: datetime
    reason: str
    action: str
    keep: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetDrift:
    """Begin to count anew."""

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendTask:
    """Let nothing be given in a task, revoke its live credentials, and take back what people were asked in it."""

    task: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeTask:
    """Let a suspended task go on; its drift waits for nobody any more."""

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reportable:
    """A credential that a service may report on: live, or remembered for that alone."""

    credential_id: str
    audience: str
    agent: str
    tenant: str
    task: str
    transaction_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """A refusal of what lies outside a task, that was counted."""

    at: datetime
    reason: str
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """A report that was counted: where its event stands, and the digest of what it said."""

    position: int
    digest: str
