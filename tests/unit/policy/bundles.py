"""Bundles for tests: the shipped example, and small changes to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from broker.intent import Intent, Json, Level, Resource
from broker.policy.bundle import compile_bundle
from broker.policy.compiled import CompiledPolicy
from broker.policy.decide import Question
from broker.policy.source import read_directory

DIRECTORY: Final = Path(__file__).parents[3] / "examples" / "support-desk" / "policy"
EXAMPLE: Final[Mapping[str, bytes]] = read_directory(DIRECTORY)

SUPPORT: Final = "spiffe://example.org/agent/support-assistant"
WHOLESALE: Final = "spiffe://example.org/agent/wholesale-assistant"
SHARED: Final = "spiffe://example.org/agent/shared-assistant"
COURIER: Final = "spiffe://partner.example/agent/courier"
ORDERS: Final = "spiffe://example.org/service/orders"
SECURITY: Final = "spiffe://example.org/operator/security"
DESK: Final = "spiffe://example.org/operator/retail-desk"
TASK: Final = "task_00000000-0000-7000-8000-000000000001"


def replaced(file: str, old: str, new: str, files: Mapping[str, bytes] = EXAMPLE) -> dict[str, bytes]:
    """Return the files with the first `old` in one of them replaced; it must be there."""
    text = files[file].decode()
    assert old in text, f"{old!r} is not in {file}"
    return {**files, file: text.replace(old, new, 1).encode()}


def added(file: str, text: str, files: Mapping[str, bytes] = EXAMPLE) -> dict[str, bytes]:
    """Return the files with text added to one of them, which may be new."""
    return {**files, file: files.get(file, b"") + b"\n" + text.encode()}


def without_cases(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files with the two cases that must be there and hold for every change that tests make."""
    cases = """
[[case]]
name = "keys"
principal = "spiffe://example.org/service/orders"
action = "broker.keys.read"
target = { kind = "log", id = "audit" }
expect = "permit"

[[case]]
name = "nobody"
principal = "spiffe://example.org/agent/nobody"
action = "broker.keys.read"
target = { kind = "log", id = "audit" }
expect = "deny"
reason = "PRINCIPAL_UNKNOWN"
"""
    return {**files, "golden.toml": cases.encode()}


def compiled(files: Mapping[str, bytes] = EXAMPLE) -> CompiledPolicy:
    """Compile."""
    return compile_bundle(files)


def question(  # noqa: PLR0913  # every part of an intent, each with a default
    principal: str = SUPPORT,
    action: str = "order.read",
    resource: Resource | None = None,
    *,
    tenant: str = "",
    task: str = "",
    purpose: str = "customer-support",
    audience: str = ORDERS,
    parameters: Mapping[str, Json] | None = None,
    on_behalf_of: str = "",
    sensitivity: Level | None = None,
    risk: Level | None = None,
) -> Question:
    """Return a question that is permitted as it stands."""
    intent = Intent(
        action=action,
        resource=resource or Resource(type="order", id="1234"),
        parameters=parameters or {},
        purpose=purpose,
        audience=audience,
        task=task,
        on_behalf_of=on_behalf_of,
        sensitivity=sensitivity,
        risk=risk,
    )
    return Question(principal=principal, login="x509", intent=intent, tenant=tenant)


def refund(amount: Json = 100, **changes: Json) -> Question:
    """Return the question for a refund."""
    parameters: dict[str, Json] = {"amount": amount, "currency": "EUR", **changes}
    return question(action="order.refund", task=TASK, parameters=parameters)
