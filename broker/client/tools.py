"""Tools: a function that a language model calls, and the intent that each of its calls declares.

    @langchain_core.tools.tool
    @Tool(session=session, action="order.read", resource=("order", "order_id"), purpose="support", audience=ORDERS)
    async def look_up_order(credential: Credential, order_id: str) -> str:
        "Look one order up."
        ...

The function is called with the credential for this very call as its first argument. The model never sees that one: it
is not in the signature that frameworks make their schema from. What the model does see of a refusal is a sentence.
"""

import inspect
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast, get_type_hints, overload

import grpc

from broker.client import sync
from broker.client.ask import Ask
from broker.client.credential import Credential, Task
from broker.client.errors import InvalidRequest, RefusedError, Unreachable, from_rpc, refused
from broker.client.session import Session
from broker.client.trail import of_call
from broker.errors import Reason, Refusal
from broker.intent import Intent
from broker.link.identity import IdentityUnavailable

__all__ = ["Tool"]

P = ParamSpec("P")
T = TypeVar("T")

_PROBLEMS: Final = (RefusedError, Unreachable, IdentityUnavailable)
_NAMED: Final = frozenset({inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A decorator for a tool function: its arguments become the intent, and it gets the credential for that.

    The arguments that the function is given are those that the broker decided about, no others. An argument whose
    default is None and that is None is left out of the intent. A refusal, the broker's or the service's, is returned as
    text that a model can read and pass on; every other exception of the function stays one.

    The audit log gets the tool's name and a digest of name and arguments with each exchange, and what `led_by` says of
    the prompt; see broker.client.trail.

    Attributes:
        session: gives the credentials; an async function needs an async one, a plain function one without asyncio.
        action: what a call does.
        resource: the type of what it touches, and the name of the argument that holds its id.
        purpose: why; registered for this agent.
        audience: SPIFFE ID of the service that the function calls.
        parameters: names of the arguments that are the call's parameters; all but the id when None.
        task: what the calls belong to; writes need one.
        cache: as Ask; for reads only.
        wait: as Ask; the model is told nothing meanwhile. None: it is told to ask again once a person has approved.

    """

    session: Session | sync.Session
    action: str
    resource: tuple[str, str]
    purpose: str
    audience: str
    parameters: Collection[str] | None = None
    task: Task | str = ""
    cache: bool = False
    wait: timedelta | None = None

    @overload
    def __call__(
        self, function: Callable[Concatenate[Credential, P], Coroutine[Any, Any, T]]
    ) -> Callable[P, Coroutine[Any, Any, T | str]]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Credential, P], T]) -> Callable[P, T | str]: ...
    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function whose first parameter takes the credential.

        Raises:
            TypeError: the function cannot be a tool of this session; the message says why.

        """
        signature = _seen(function)
        self._check(function, signature)
        call = self._asynchronous(function, signature) if _is_async(function) else self._waiting(function, signature)
        del call.__wrapped__  # type: ignore[attr-defined]  # whoever followed it would find the credential
        call.__signature__ = signature  # type: ignore[attr-defined]  # what frameworks read
        call.__annotations__ = _annotations(signature)
        return call

    def _asynchronous(self, function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
        session = cast(Session, self.session)

        @wraps(function)
        async def call(*given: object, **named: object) -> object:
            try:
                bound = _bound(signature, given, named)
                credential = await session.exchange_intent(
                    self._intent(bound),
                    cache=self.cache,
                    wait=self.wait,
                    trail=of_call(function.__name__, bound.arguments),
                )
                return await function(credential, *bound.args, **bound.kwargs)
            except _PROBLEMS as problem:
                return _told(function.__name__, problem)
            except grpc.aio.AioRpcError as error:
                return _told(function.__name__, _refusal(error))

        return call

    def _waiting(self, function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
        session = cast(sync.Session, self.session)

        @wraps(function)
        def call(*given: object, **named: object) -> object:
            try:
                bound = _bound(signature, given, named)
                credential = session.exchange_intent(
                    self._intent(bound),
                    cache=self.cache,
                    wait=self.wait,
                    trail=of_call(function.__name__, bound.arguments),
                )
                return function(credential, *bound.args, **bound.kwargs)
            except _PROBLEMS as problem:
                return _told(function.__name__, problem)
            except grpc.aio.AioRpcError as error:
                return _told(function.__name__, _refusal(error))

        return call

    def _check(self, function: Callable[..., Any], signature: inspect.Signature) -> None:
        """Refuse at once what could not work at any call."""
        if _is_async(function) != isinstance(self.session, Session):
            raise TypeError("An async tool needs a session of broker.client, a plain one of broker.client.sync.")
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError("A tool returns its result; it does not yield.")
        if any(each.kind not in _NAMED for each in signature.parameters.values()):
            raise TypeError("Each argument of a tool has a name of its own: no *args, no **kwargs.")
        missing = {self.resource[1], *(self.parameters or ())} - signature.parameters.keys()
        if missing:
            raise TypeError(f"{function.__name__} has no argument named {', '.join(sorted(missing))}.")

    def _intent(self, bound: inspect.BoundArguments) -> Intent:
        """Return what a call is about to do.

        Raises:
            RefusedError: its arguments have no single meaning.

        """
        kind, name = self.resource
        identifier = bound.arguments[name]
        if type(identifier) is not str:
            raise refused(Refusal(Reason.INTENT_RESOURCE_INVALID, f"{name}: text"))
        wanted = bound.signature.parameters.keys() - {name} if self.parameters is None else set(self.parameters)
        left_out = {
            each.name
            for each in bound.signature.parameters.values()
            if each.default is None and bound.arguments[each.name] is None
        }
        return Ask(
            action=self.action,
            resource=(kind, identifier),
            purpose=self.purpose,
            parameters={each: bound.arguments[each] for each in bound.arguments if each in wanted - left_out},
            task=self.task,
        ).intent(self.audience)


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)


def _seen(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature that the model's arguments have: without the credential, its types resolved."""
    hints = get_type_hints(function, include_extras=True)
    whole = inspect.signature(function)
    credential, *others = whole.parameters.values() or (None,)
    if credential is None or hints.get(credential.name) is not Credential:
        raise TypeError("The first parameter of a tool takes the credential: (credential: Credential, ...).")
    return whole.replace(
        parameters=[each.replace(annotation=hints.get(each.name, each.annotation)) for each in others],
        return_annotation=hints.get("return", whole.return_annotation),
    )


def _annotations(signature: inspect.Signature) -> dict[str, Any]:
    named = {each.name: each.annotation for each in signature.parameters.values()} | {
        "return": signature.return_annotation
    }
    return {name: annotation for name, annotation in named.items() if annotation is not inspect.Signature.empty}


def _bound(signature: inspect.Signature, given: tuple[Any, ...], named: dict[str, Any]) -> inspect.BoundArguments:
    try:
        bound = signature.bind(*given, **named)
    except TypeError:  # its text names what the model made up
        raise InvalidRequest(
            reason=Reason.REQUEST_INVALID,
            message="arguments",
            sentence=Reason.REQUEST_INVALID.meaning.sentence,
            next_step="Call the tool with the arguments that its schema names, and no others.",
        ) from None
    bound.apply_defaults()
    return bound


def _refusal(error: grpc.aio.AioRpcError) -> Exception:
    """Return the refusal that a call of the function's own ended with; anything else goes on as it is."""
    found = from_rpc(error, connection=None)
    if isinstance(found, RefusedError) and isinstance(found.reason, Reason):
        return found
    raise error


def _told(name: str, problem: Exception) -> str:
    """Return what the model is told; the developer finds the rest in the log."""
    _log.info("tool %s: %s", name, problem)
    match problem:
        case RefusedError():
            reason = getattr(problem.reason, "name", problem.reason)
            return f"Refused ({reason}): {problem.sentence} {problem.next_step}".strip()
        case IdentityUnavailable():
            return f"Refused (SVID_ABSENT): {Reason.SVID_ABSENT.meaning.sentence} Tell the user."
        case _:
            return "No answer: this may or may not have been done. Tell the user, and try again later."
