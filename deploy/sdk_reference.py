"""The page of every public name of the SDKs, made from the code: `python deploy/sdk_reference.py > docs/sdk.md`.

What stands on that page is what a program may rely on. A change of a name, a parameter or a type changes the page, and
so shows in review.
"""

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
if __package__ in {None, ""}:  # run as a file: the repository's root is where imports begin
    sys.path[0] = str(ROOT)

MODULES: Final = (
    "broker.client",
    "broker.client.http",
    "broker.client.sync",
    "broker.client.tools",
    "broker.validator",
)
_HEAD = """\
# The SDKs, name by name

Everything a program may rely on; what does not stand here may change without notice. All of it is typed (`py.typed`).
How to use it: [agents](quickstart-agent.md), [services](quickstart-service.md).

Made from the code by `python deploy/sdk_reference.py > docs/sdk.md`.
"""
_JSON = "'bool | int | str | Sequence[Json] | Mapping[str, Json]'"  # how the alias `broker.intent.Json` shows
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PLACE = re.compile(r"\b(?:[a-z_]\w*\.)+(?=[A-Z_a-z])")  # where a type stands: its name is enough here


def page() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *(line for name in MODULES for line in _module(name))])


def _module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield from (f"## `{name}`", "", _summary(module), "")
    for public in sorted(module.__all__):
        thing = getattr(module, public)
        yield from _class(public, thing) if inspect.isclass(thing) else _function(public, thing)


def _class(name: str, thing: type) -> Iterator[str]:
    parents = " ".join(
        f"Is a `{base.__name__}`." for base in thing.__bases__ if _ours(base) or issubclass(base, Exception)
    )
    yield from (f"### `{name}`", "", f"{_summary(thing)} {parents}".rstrip(), "")
    if issubclass(thing, Enum):
        yield from (f"- `{member.name}`" for member in thing)
    elif dataclasses.is_dataclass(thing) or "Args:" in (thing.__doc__ or ""):  # what a user makes by hand
        yield f"- `{name}{_signature(thing.__init__, bound=True)}`"
    members = {name: value for each in reversed(thing.__mro__) if _ours(each) for name, value in vars(each).items()}
    for member, value in members.items():
        if not member.startswith("_") and (line := _member(member, value)):
            yield line
    yield ""


def _ours(thing: type) -> bool:
    return thing.__module__.partition(".")[0] == "broker"


def _member(name: str, value: Any) -> str | None:  # noqa: ANN401 - whatever a class holds
    if isinstance(value, property) and value.fget:
        return f"- `.{name}: {_type(inspect.signature(value.fget).return_annotation)}`: {_summary(value)}"
    if isinstance(value, classmethod | staticmethod):
        return f"- `{name}{_signature(value.__func__, bound=isinstance(value, classmethod))}`: {_summary(value)}"
    if inspect.isfunction(value):
        return f"- `.{name}{_signature(value, bound=True)}`: {_summary(value)}"
    return None


def _function(name: str, thing: Any) -> Iterator[str]:  # noqa: ANN401 - a function, or a type's alias
    if callable(thing) and inspect.isroutine(thing):
        yield from (f"### `{name}`", "", _summary(thing), "", f"- `{name}{_signature(thing, bound=False)}`", "")
    else:
        yield from (f"### `{name}`", "", f"`{_plain(repr(thing))}`", "")


def _signature(function: Any, *, bound: bool) -> str:  # noqa: ANN401 - anything that can be called
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[bound:]
    return _plain(str(signature.replace(parameters=parameters)))


def _type(annotation: object) -> str:
    return _plain(inspect.formatannotation(annotation))


def _plain(text: str) -> str:
    return _PLACE.sub("", _ADDRESS.sub("", text.replace(_JSON, "Json")))


def _summary(thing: object) -> str:
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    if not paragraph:
        raise SystemExit(f"{thing} is public and has no docstring")
    return " ".join(paragraph.split())


if __name__ == "__main__":
    sys.stdout.write(page())
