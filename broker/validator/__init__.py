"""The resource side: a service accepts a call only with a credential that covers it and has not been revoked.

async with connect("broker.example.org:8443", broker_id=..., issuer=...) as service:
    guard = service.interceptor(services=[...], calls={...})
    server = grpc.aio.server(interceptors=[guard])
    server.add_secure_port("0.0.0.0:8444", service.server_credentials())
"""

from broker.intent import Resource
from broker.validator.asgi import HttpRequest, ValidatorMiddleware
from broker.validator.bounds import Bounds, Entry, Impact, Mapped, Mapper, high_impact, reads, writes
from broker.validator.call import Call
from broker.validator.check import Membership, Memory, Validator
from broker.validator.feed import Feed, FeedSettings
from broker.validator.guard import Guard, MappingError, verified_token
from broker.validator.interceptor import ValidatorInterceptor
from broker.validator.reports import Reports, Use, Written, outcome
from broker.validator.service import GuardedService, NoFeed, connect
from broker.validator.spool import SpoolUnusable
from broker.validator.validation import Validation, open_validator
from broker.validator.view import RevocationView

__all__ = [
    "Bounds",
    "Call",
    "Entry",
    "Feed",
    "FeedSettings",
    "Guard",
    "GuardedService",
    "HttpRequest",
    "Impact",
    "Mapped",
    "Mapper",
    "MappingError",
    "Membership",
    "Memory",
    "NoFeed",
    "Reports",
    "Resource",
    "RevocationView",
    "SpoolUnusable",
    "Use",
    "Validation",
    "Validator",
    "ValidatorInterceptor",
    "ValidatorMiddleware",
    "Written",
    "connect",
    "high_impact",
    "open_validator",
    "outcome",
    "reads",
    "verified_token",
    "writes",
]
