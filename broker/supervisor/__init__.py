"""`broker serve` as three processes: this one starts issuer and door, joins them, and starts again what dies.

It holds no key, opens no store and speaks no gRPC: it must be able to fork, and to outlive a defect of either.
"""

from broker.supervisor.control import NO_CORE, Control
from broker.supervisor.supervise import supervise
from broker.supervisor.user import UserProblem, Users, find_users

__all__ = ["NO_CORE", "Control", "UserProblem", "Users", "find_users", "supervise"]
