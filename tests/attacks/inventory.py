"""What there is to attack, asked of the code: every field of every request, every command, every guard of a service."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import click
from google.protobuf.descriptor import Descriptor, MethodDescriptor

import broker.v1
from broker.cli import broker as command_line

_WELL_KNOWN = "google.protobuf."


def methods() -> Iterator[MethodDescriptor]:
    """Yield every RPC that the proto declares."""
    for module in iter_modules(broker.v1.__path__):
        if module.name.endswith("_pb2"):
            file = import_module(f"broker.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                yield from service.methods


def fields(message: Descriptor, path: str = "") -> Iterator[str]:
    """Yield the path of every field that holds a value, below a message."""
    for field in message.fields:
        within = field.message_type
        if within is None or within.full_name.startswith(_WELL_KNOWN):
            yield path + field.name
        else:
            yield from fields(within, f"{path}{field.name}.")


def requests() -> Iterator[str]:
    """Yield every field of every request, after the name of its RPC; of a request without fields the name alone.

    An item of a stream is named as the request that it holds.
    """
    for method in methods():
        found = list(fields(method.input_type))
        yield from (f"{method.name}.{field.removeprefix('items.request.')}" for field in found)
        if not found:
            yield f"{method.name}."


def commands(group: click.Command = command_line, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with the words that call it."""
    if not isinstance(group, click.Group):
        yield path.strip(), group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command, f"{path} {name}")


def inputs(command: click.Command) -> Iterator[str]:
    """Yield what a command is given: its arguments, and its options that take a value."""
    for param in command.params:
        if isinstance(param, click.Argument) or (isinstance(param, click.Option) and not param.is_flag):
            assert param.name is not None
            yield param.name
