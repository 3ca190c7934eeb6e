"""Parameters of an intent: one meaning or a refusal, by the judgement of a JSON reader written from RFC 8259."""

from typing import Final

import rfc8785

from broker.errors import Refusal
from broker.intent import canonical_json, parse_parameters
from tests.fuzz.oracle_json import NotOne, Reader, canonical, same
from tests.fuzz.targets import text_of

SEEDS: Final = tuple(
    text.encode("utf-8", "surrogatepass")
    for text in (
        "",
        "{}",
        '{"amount": 12, "to": ["a", {"b": true}]}',
        '{"a": 1, "a": 2}',
        '{"a": 1.0}',
        '{"a": 1e1}',
        '{"a": -0}',
        '{"a": 01}',
        '{"a": 9007199254740991, "b": -9007199254740991}',
        '{"a": 9007199254740992}',
        '{"a": NaN, "b": Infinity}',
        '{"a": null}',
        '{"\\ud800": 1}',
        '{"\\ud83d\\ude00": "\\u0000\\n\\/"}',
        '{"\u20ac": 1, "\ue000": 2, "\U0001f600": 3, "k\u0301": 4}',
        '{"a": "\ud800"}',
        '\ufeff{"a": 1}',
        " \t\r\n{ } ",
        "[1]",
        '{"a":' * 16 + "{}" + "}" * 16,
        '{"a":[' * 7 + "1" + "]}" * 7,
        '{"a":"]]]]{{{{\\"", "b":[[[[]]]]}',
        '{"a":' + "[1," * 3 + "1" + "]" * 3 + "}",
        '{"a": [' + ",".join("1" * 511) + "]}",
        '{"a": tru}',
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": \u0661}',
        '{"a": 1_0}',
    )
)
_MAX_BYTES: Final = 32 * 1024
_MAX_DEPTH: Final = 16
_MAX_MEMBERS: Final = 512


def one(data: bytes) -> None:
    """Hold one text against the oracle; whatever is accepted has one canonical form, and is that form's meaning."""
    text = text_of(data)
    wanted = _by_the_standard(text)
    try:
        found = parse_parameters(text)
    except Refusal as refusal:
        assert refusal.reason.name.startswith("INTENT_PARAMETERS_")
        assert wanted is None, (text, refusal.reason)
        return
    assert wanted is not None, text
    assert same(found, wanted), (text, found, wanted)
    form = canonical_json(found)
    assert form == canonical(wanted).encode() == rfc8785.dumps(found), text
    if len(form) <= _MAX_BYTES:
        assert same(parse_parameters(form.decode()), found), text


def _by_the_standard(text: str) -> dict[str, object] | None:
    if len(text.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
        return None
    reader = Reader(text or "{}", depth=_MAX_DEPTH)
    try:
        found = reader.read()
    except NotOne:
        return None
    return found if reader.members <= _MAX_MEMBERS else None
