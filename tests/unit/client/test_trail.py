"""What leads to an intent: digests and names, of the block around a call and of the call itself."""

import hashlib
from base64 import urlsafe_b64encode

import pytest

from broker.client import InvalidRequest
from broker.client.trail import Trail, led_by, of_call, trail_of
from broker.intent import Json, canonical_json

PROMPT = "Das Mahlwerk ist defekt. ☕"


def sha256(text: bytes) -> str:
    return "sha-256:" + urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")


def test_a_text_gives_its_digest_and_goes_nowhere() -> None:
    made = trail_of(prompt=PROMPT, prompt_reference="message 12", tool_call="refund(1)", tool_call_reference="call 7")
    assert made == Trail(
        prompt_reference="message 12",
        prompt_digest=sha256(PROMPT.encode()),
        tool_call_reference="call 7",
        tool_call_digest=sha256(b"refund(1)"),
    )
    assert "Mahlwerk" not in repr(made)


def test_an_object_has_one_digest_however_it_is_written() -> None:
    one: dict[str, Json] = {"a": 1, "b": ["x", True]}
    other: dict[str, Json] = {"b": ["x", True], "a": 1}
    assert trail_of(tool_call=one) == trail_of(tool_call=other)
    assert trail_of(tool_call=one).tool_call_digest == sha256(b'{"a":1,"b":["x",true]}')


def test_nothing_gives_nothing() -> None:
    assert trail_of() == Trail()


@pytest.mark.parametrize("reference", ["x" * 257, "a\nb", "a\u202eb"])
def test_a_reference_that_does_not_show_as_what_it_is(reference: str) -> None:
    with pytest.raises(InvalidRequest):
        trail_of(prompt_reference=reference)


def test_a_call_is_added_to_what_the_block_around_it_says() -> None:
    called = sha256(canonical_json({"tool": "refund", "arguments": {"amount": 1}}))
    assert of_call("refund", {"amount": 1}) == Trail(tool_call_reference="refund", tool_call_digest=called)
    outer = trail_of(prompt=PROMPT, tool_call_reference="call 7")
    with led_by(outer):
        assert of_call("refund", {"amount": 1}) == Trail(
            prompt_digest=outer.prompt_digest, tool_call_reference="call 7", tool_call_digest=called
        )
        with led_by(trail_of(tool_call="as it was sent")):
            assert of_call("refund", {"amount": 1}).tool_call_digest == sha256(b"as it was sent")
        assert of_call("refund", {"amount": 1}).prompt_digest == outer.prompt_digest
    assert not of_call("refund", {"amount": 1}).prompt_digest
