"""A service of two methods to stand behind a guard: BeginTask and EndTask of the broker's own, and no other of its."""

from types import SimpleNamespace
from typing import Any, Final

from broker.v1 import task_pb2

_WHOLE: Final = task_pb2.DESCRIPTOR.services_by_name["TaskService"]
# As much of a descriptor as the guard reads.
TASKS: Final[Any] = SimpleNamespace(
    full_name=_WHOLE.full_name, methods=[method for method in _WHOLE.methods if method.name in {"BeginTask", "EndTask"}]
)
