"""Protobuf's wire format, read by hand from its specification: what bytes say, by a message's descriptor."""

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BITS: Final = {
    FieldDescriptor.TYPE_INT32: 32,
    FieldDescriptor.TYPE_ENUM: 32,
    FieldDescriptor.TYPE_INT64: 64,
}
_UNSIGNED: Final = {FieldDescriptor.TYPE_UINT32: 32, FieldDescriptor.TYPE_UINT64: 64}


class NotRead(Exception):
    """The bytes are no message of this kind, or they hold a field that it does not have."""


def read(content: bytes, kind: Descriptor) -> dict[str, Any]:
    """Return the fields that stand in a message, by name; messages within as dicts, repeated fields as lists.

    Raises:
        NotRead: see there.

    """
    found: dict[str, Any] = {}
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        field = kind.fields_by_number.get(tag >> 3)
        if field is None or tag >> 32:
            raise NotRead("unknown")
        value, at = _raw(content, at, tag & 7)
        _put(found, field, tag & 7, value)
    return {name: _finished(value, kind.fields_by_name[name]) for name, value in found.items()}


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise NotRead("varint")
        number |= (content[at] & 0x7F) << shift
        shift += 7
        at += 1
        if content[at - 1] < 0x80:
            return number & (1 << 64) - 1, at


def _raw(content: bytes, at: int, form: int) -> tuple[int | bytes, int]:
    if form == _VARINT:
        return _varint(content, at)
    if form != _BYTES:
        raise NotRead("a form that none of our fields has")
    size, at = _varint(content, at)
    if at + size > len(content):
        raise NotRead("cut")
    return content[at : at + size], at + size


def _put(found: dict[str, Any], field: FieldDescriptor, form: int, value: int | bytes) -> None:
    if field.containing_oneof is not None:
        for other in field.containing_oneof.fields:
            if other is not field and other.name in found:
                del found[other.name]
    if field.is_repeated:
        held = found.setdefault(field.name, [])
        packed = form == _BYTES and _is_number(field)
        held += _unpacked(value) if packed and isinstance(value, bytes) else [_checked(field, form, value)]
    elif field.message_type is not None:  # a message that stands twice is its parts joined
        found[field.name] = found.get(field.name, b"") + _checked(field, form, value)
    else:
        found[field.name] = _checked(field, form, value)


def _is_number(field: FieldDescriptor) -> bool:
    return field.type in _BITS or field.type in _UNSIGNED or field.type == FieldDescriptor.TYPE_BOOL


def _checked(field: FieldDescriptor, form: int, value: int | bytes) -> Any:
    if (form == _VARINT) != _is_number(field):
        raise NotRead("another form than the field's")
    # Also what a later one replaces has to be text, or a message.
    if field.type == FieldDescriptor.TYPE_STRING or field.message_type is not None:
        _scalar(value, field)
    return value


def _unpacked(content: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(content):
        number, at = _varint(content, at)
        numbers.append(number)
    return numbers


def _finished(value: Any, field: FieldDescriptor) -> Any:
    if field.is_repeated:
        return [_scalar(each, field) for each in value]
    return _scalar(value, field)


def _scalar(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return read(value, field.message_type)
    if field.type == FieldDescriptor.TYPE_STRING:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as problem:
            raise NotRead("text") from problem
    if field.type == FieldDescriptor.TYPE_BOOL:
        return value != 0
    if field.type in _UNSIGNED:
        return value & (1 << _UNSIGNED[field.type]) - 1
    if field.type in _BITS:
        bits = _BITS[field.type]
        low = value & (1 << bits) - 1
        return low - (1 << bits) if low >> (bits - 1) else low
    return value


def said(message: Message) -> dict[str, Any]:
    """Return the same of a message that protobuf's own library read."""
    return {
        field.name: [_said(each) for each in value] if field.is_repeated else _said(value)
        for field, value in message.ListFields()
    }


def _said(value: Any) -> Any:
    return said(value) if isinstance(value, Message) else value


def without_defaults(found: dict[str, Any], kind: Descriptor) -> dict[str, Any]:
    """Leave out what says no more than its absence: defaults of fields that have no presence, empty repeated fields."""
    kept: dict[str, Any] = {}
    for name, value in found.items():
        field = kind.fields_by_name[name]
        within = field.message_type
        if within is None:
            told = value
        elif field.is_repeated:
            told = [without_defaults(each, within) for each in value]
        else:
            told = without_defaults(value, within)
        if told or field.has_presence:
            kept[name] = told
    return kept
