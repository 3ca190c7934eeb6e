"""The frozen formats against vectors that a second program made (tests/vectors/make, Go, nothing of broker in it).

Here reasons, intents, events, the log and cursors; what travels on a wire is in test_vectors_wire.py. Every positive is
reproduced byte for byte, or accepted where a broker would not write it like that; every negative is refused for the
reason that stands beside it.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from google.rpc.error_details_pb2 import ErrorInfo, LocalizedMessage
from google.rpc.status_pb2 import Status

from broker.audit import chain, checkpoint, cursor, saved, tree
from broker.audit.entry import Caller, Decided, Opening
from broker.audit.event import Event, seal
from broker.audit.verify import FaultKind, LoggedEntry, verify_log
from broker.errors import Category, Reason, Refusal
from broker.intent import Intent, Level, Resource, call_digest, canonical_json, digest, parse_parameters
from broker.operations.calls import AuditFilter
from broker.operations.subscribe import _view
from broker.server.status import DOMAIN, code_of, status_of
from tests.vectors.files import FILES, VECTORS, reason_of, rows

# --- the maker -----------------------------------------------------------------------------------------------------


def test_the_second_program_still_writes_what_is_committed(tmp_path: Path) -> None:
    go = shutil.which("go")
    assert go is not None, "Go is what SPIRE is built with, so it is here"
    environment = os.environ | {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOWORK": "off"}
    made = subprocess.run(
        [go, "run", ".", str(tmp_path)],
        cwd=VECTORS / "make",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in VECTORS.glob("*.json")
    }


def test_the_second_program_shares_nothing_with_the_broker() -> None:
    sources = sorted((VECTORS / "make").iterdir())
    assert {path.suffix for path in sources} == {".go", ".mod"}
    assert "require" not in (VECTORS / "make" / "go.mod").read_text(), "the standard library only"
    code = [path.read_text() for path in sources if path.suffix == ".go"]
    blocks = [re.findall(r"^import (.+?)\n(?=\n)", text, re.MULTILINE | re.DOTALL) for text in code]
    imported = {path for block in blocks for path in re.findall('"(.+?)"', "".join(block))}
    assert {"crypto/sha256", "strings"} <= imported
    assert not [path for path in imported if "." in path.partition("/")[0]], "a host's name: not the standard library"


def test_every_file_of_vectors_names_the_page_that_it_freezes() -> None:
    root, index = VECTORS.parent.parent, (VECTORS.parent.parent / "docs" / "formats" / "README.md").read_text()
    for name, content in FILES.items():
        assert (root / content["format"]).is_file(), f"{name}: {content['format']} is missing"
        assert f"`{name}.json`" in index


# --- reasons -------------------------------------------------------------------------------------------------------


def test_no_reason_is_renamed_removed_moved_or_added_unknowingly() -> None:
    listed = {each["reason"]: (each["category"], each["code"]) for each in FILES["reasons"]["reasons"]}
    ours = {reason.name: (reason.category.name, code_of(reason).name) for reason in Reason}
    assert ours == listed, "names are part of the API; a new one goes into tests/vectors/make/reasons.go"
    assert {category for category, _ in listed.values()} == {category.name for category in Category}
    assert FILES["reasons"]["domain"] == DOMAIN


def test_a_refusal_travels_as_this_status() -> None:
    vector = FILES["reasons"]["status"]
    refusal = Refusal(
        Reason[vector["reason"]],
        vector["detail"],
        policy_ids=tuple(vector["policy_ids"]),
        decision_id=vector["decision_id"],
        sentence=vector["sentence"],
    )
    ours, theirs = status_of(refusal, request=vector["request"]), Status.FromString(bytes.fromhex(vector["bytes"]))
    assert (ours.code, ours.message, len(ours.details)) == (theirs.code, theirs.message, len(theirs.details))
    for one, other, kind in zip(ours.details, theirs.details, (ErrorInfo(), LocalizedMessage()), strict=True):
        said = [type(kind)(), type(kind)()]
        assert [each.Unpack(into) for each, into in zip((one, other), said, strict=True)] == [True, True]
        assert said[0] == said[1]


# --- intent --------------------------------------------------------------------------------------------------------


def intent_of(sent: dict[str, Any]) -> Intent:
    return Intent(
        **{name: sent[name] for name in ("action", "purpose", "audience", "task", "on_behalf_of")},
        resource=Resource(**sent["resource"]),
        parameters=parse_parameters(sent["parameters"] + " " * sent["padding"]),
        sensitivity=Level[sent["sensitivity"].upper()] if sent["sensitivity"] else None,
        risk=Level[sent["risk"].upper()] if sent["risk"] else None,
    )


@rows("intent", "accepted")
def test_an_intent_has_this_form_and_digest(vector: dict[str, Any]) -> None:
    intent = intent_of(vector["intent"])
    assert canonical_json(intent.canonical_object()) == vector["canonical"].encode()
    assert intent.digest() == vector["digest"]


@rows("intent", "refused")
def test_an_intent_without_one_meaning_is_refused(vector: dict[str, Any]) -> None:
    assert reason_of(lambda: intent_of(vector["intent"])) == vector["reason"]


# --- call ----------------------------------------------------------------------------------------------------------


@rows("call", "accepted")
def test_a_call_has_this_digest(vector: dict[str, Any]) -> None:
    resource, parameters = Resource(**vector["resource"]), parse_parameters(vector["parameters"])
    assert digest(vector["canonical"].encode()) == vector["digest"]
    assert vector["digest"] == call_digest(
        action=vector["action"], resource=resource, tenant=vector["tenant"], parameters=parameters
    )


# --- events and log ------------------------------------------------------------------------------------------------


KINDS: Final[Mapping[str, Callable[..., Event]]] = {kind.TYPE: kind for kind in get_args(Event)}


def event_of(vector: dict[str, Any]) -> Event:
    members = dict(vector["event"])
    for name, value in members.items():
        match name, value:
            case (("at" | "expires_at" | "deadline"), str()):
                members[name] = datetime.fromisoformat(value)
            case "caller", dict():
                members[name] = Caller(**value)
            case "decided", dict():
                members[name] = Decided(**value | {"policies": tuple(value["policies"])})
            case "status_indexes", dict():
                members[name] = {audience: tuple(map(tuple, ranges)) for audience, ranges in value.items()}
            case _:
                pass
    return KINDS[vector["type"]](**members)


def openings_of(vector: dict[str, Any]) -> tuple[Opening, ...]:
    return tuple(
        Opening(field=each["field"], value=each["value"].encode(), salt=bytes.fromhex(each["salt"]))
        for each in vector["openings"]
    )


@rows("event", "accepted")
def test_an_event_has_these_bytes(vector: dict[str, Any]) -> None:
    openings = openings_of(vector)
    salts = iter([opening.salt for opening in openings])
    entry = seal(event_of(vector), lambda: next(salts))
    assert entry.content == vector["content"].encode()
    assert entry.openings == openings
    assert [opening.commitment() for opening in openings] == [each["commitment"] for each in vector["openings"]]
    assert tree.leaf_hash(entry.content).hex() == vector["leaf_hash"]
    found = LoggedEntry(position=0, content=entry.content, openings=openings, leaf=bytes.fromhex(vector["leaf_hash"]))
    assert verify_log([found], pinned=[]).fault is None


def test_every_type_and_every_member_has_a_vector() -> None:
    seen: dict[str, set[str]] = {}
    for vector in FILES["event"]["accepted"]:
        seen.setdefault(vector["type"], set()).update(vector["event"])
    assert seen == {kind.TYPE: {each.name for each in dataclasses.fields(kind)} for kind in get_args(Event)}


@rows("event", "refused")
def test_what_is_no_event_is_named(vector: dict[str, Any]) -> None:
    fault = verify_log([LoggedEntry(position=0, content=bytes.fromhex(vector["content"]))], pinned=[]).fault
    assert fault is not None
    assert fault.kind is FaultKind[vector["fault"]]


def test_the_tree_has_these_roots() -> None:
    log, frontier = FILES["log"], tree.Frontier()
    roots = [frontier.root().hex()]
    for leaf in log["leaf_hashes"]:
        frontier = frontier.append(bytes.fromhex(leaf))
        roots.append(frontier.root().hex())
    assert [{"size": size, "root": root} for size, root in enumerate(roots)] == log["roots"]
    assert len(roots) > 2**4 + 1, "one more than a complete tree"


def pinned() -> checkpoint.Checkpoint:
    return checkpoint.verify(FILES["log"]["checkpoint"], checkpoint.VerifierKey.parse(FILES["log"]["verifier_key"]))


@rows("log", "accepted")
def test_a_saved_log_is_intact(vector: dict[str, Any]) -> None:
    found = list(saved.entries(vector["lines"]))
    report = verify_log(found, pinned=[pinned()])
    assert (report.fault, report.vouched) == (None, pinned().size)
    again = [json.loads(saved.to_line(each.position, each.content, each.openings)) for each in found]
    assert again == [json.loads(line) for line in vector["lines"] if "position" in json.loads(line)]


@rows("log", "refused")
def test_a_saved_log_that_was_changed_is_named(vector: dict[str, Any]) -> None:
    fault = verify_log(saved.entries(vector["lines"]), pinned=[pinned()]).fault
    assert fault is not None
    assert (fault.kind.name, fault.position) == (vector["fault"], vector["position"])


def checkpoint_key() -> checkpoint.VerifierKey:
    return checkpoint.VerifierKey.parse(FILES["checkpoint"]["verifier_key"])


@rows("checkpoint", "accepted")
def test_a_checkpoint_is_this_note(vector: dict[str, Any]) -> None:
    key, signer = (
        checkpoint_key(),
        ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(FILES["checkpoint"]["test_seed"])),
    )
    stated = checkpoint.Checkpoint(origin=key.name, size=vector["size"], root=bytes.fromhex(vector["root"]))
    assert checkpoint.verify(vector["note"], key) == stated
    assert (checkpoint.sign(stated, key.public_key, signer) == vector["note"]) is vector["reproduced"]


def test_a_verifier_key_is_this_text() -> None:
    assert checkpoint_key().to_text() == FILES["checkpoint"]["verifier_key"]
    assert checkpoint_key().public_key.hex() == FILES["checkpoint"]["public_key"]


@rows("checkpoint", "refused")
def test_a_note_that_proves_nothing_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(checkpoint.CheckpointInvalid):
        checkpoint.verify(vector["note"], checkpoint_key())


@rows("checkpoint", "refused_verifier_keys")
def test_what_is_no_verifier_key_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(checkpoint.CheckpointInvalid):
        checkpoint.VerifierKey.parse(vector["verifier_key"])


@rows("checkpoint", "refused_endorsements")
def test_a_note_that_introduces_no_key_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(checkpoint.CheckpointInvalid):
        chain.endorsed(vector["note"], checkpoint_key())


def test_an_endorsement_is_this_note() -> None:
    found = FILES["checkpoint"]
    following = checkpoint.VerifierKey.parse(found["next_verifier_key"])
    signer = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(found["test_seed"]))
    assert chain.endorsed(found["endorsement"], checkpoint_key()) == following
    assert chain.endorse(following, checkpoint_key(), signer) == found["endorsement"]


# --- cursors -------------------------------------------------------------------------------------------------------

CURSOR_KEY: Final = bytes.fromhex(FILES["cursor"]["test_key"])


def place_of(vector: dict[str, Any]) -> cursor.Place:
    return cursor.Place(**{name: vector[name] for name in ("log", "stream", "reader", "view")})


@rows("cursor", "accepted")
def test_a_cursor_is_this_text(vector: dict[str, Any]) -> None:
    place, position = place_of(vector), vector["position"]
    leaf = vector.get("leaf", "")
    assert not leaf or cursor.short_leaf(vector["entry"].encode()) == leaf
    assert cursor.seal(place, position, leaf, CURSOR_KEY) == vector["cursor"]
    assert cursor.unseal(vector["cursor"], place, CURSOR_KEY, position, lambda _: leaf or "of any entry") == position


def unsealed(vector: dict[str, Any]) -> int:
    leaf = vector.get("leaf", "")
    return cursor.unseal(vector["cursor"], place_of(vector), CURSOR_KEY, vector["size"], lambda _: leaf)


@rows("cursor", "refused")
def test_a_cursor_that_is_not_good_here_is_refused(vector: dict[str, Any]) -> None:
    refused = reason_of(lambda: unsealed(vector))
    assert refused == vector["reason"]


@rows("cursor", "views")
def test_a_view_has_this_digest(vector: dict[str, Any]) -> None:
    members = vector["members"]
    ours = _view(AuditFilter(**members | {"kinds": tuple(members["kinds"])})) if "kinds" in members else ""
    assert (ours or digest(canonical_json(members))) == vector["view"]
