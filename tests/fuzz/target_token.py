"""Tokens: whatever is accepted, joserfc verifies too, and its claims are as docs/formats/credential.md has them.

The first byte chooses what the rest is: a whole token, or a header or a payload that is signed here with the broker's
own key, so that what stands behind the signature is reached as well.
"""

import json
import re
from base64 import urlsafe_b64decode
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from broker.credential.claims import VerifiedToken, authorization_details
from broker.credential.verify import LEEWAY, verify
from broker.errors import Category, Reason, Refusal
from tests.fuzz.oracle_json import NotOne, Reader, canonical
from tests.unit.credential.samples import AUDIENCE, ISSUER, KEYS, NOW, SIGNER, claims, header, signed, token

WHOLE: Final = b"t"
HEADER: Final = b"h"
PAYLOAD: Final = b"p"


def _json(value: Any) -> bytes:
    return canonical(value).encode()


_NOW: Final = int(NOW.timestamp())
_BEHIND: Final[dict[str, Any]] = claims()["authorization_details"][0]
_HEADERS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"alg": "none"},
    {"alg": "HS256"},
    {"typ": "JWT"},
    {"crit": ["b64"], "b64": False},
    {"jku": "https://a"},
    {"kid": "../../etc/passwd"},
    {"zip": "DEF"},
)
_CLAIMS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"aud": [AUDIENCE]},
    {"exp": str(_NOW + 9)},
    {"exp": 2**60},
    {"exp": _NOW, "iat": _NOW - 300, "nbf": _NOW - 300},
    {"act": {"sub": "a"}},
    {"use": "once"},
    {"sub": ""},
    {"cnf": {}},
    {"nbf": 0},
    {"iss": ISSUER + "\n"},
    {"status": {"status_list": {"idx": -1, "uri": ""}}},
    {"authorization_details": []},
    {"authorization_details": [_BEHIND | {"actions": ["b", "a"]}]},
    {"authorization_details": [_BEHIND | {"parameters": {"a": {"min": 1}}}]},
    {"authorization_details": [_BEHIND | {"parameters": {"a": [True, 1, "1", {"b": [1]}]}}]},
)
SEEDS: Final = (
    WHOLE + token().encode(),
    WHOLE + token(task="").encode() + b"=",
    WHOLE + b"..",
    WHOLE + json.dumps({"payload": "e30", "signatures": []}).encode(),
    *(HEADER + _json(header(**change)) for change in _HEADERS),
    HEADER + b'{"alg":"ES256","alg":"none","kid":"a","typ":"at+jwt"}',
    *(PAYLOAD + _json(claims(**change)) for change in _CLAIMS),
    PAYLOAD + _json(claims())[:-1] + b',"exp":1}',
)

_KEY: Final = ECKey.import_key(KEYS[SIGNER.kid])
_ID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAME: Final = r"[a-z0-9][a-z0-9._/-]{0,127}"
_FORMS: Final = {
    "iss": re.escape(ISSUER),
    "sub": r"spiffe://.+/.+",
    "aud": re.escape(AUDIENCE),
    "jti": "cred_" + _ID,
    "tenant": _NAME,
    "txn": "txn_" + _ID,
    "intent": r"sha-256:[A-Za-z0-9_-]{43}",
    "use": "many|once",
}
_MEMBERS: Final = {*_FORMS, "client_id", "iat", "nbf", "exp", "authorization_details", "cnf", "status"}


def one(data: bytes) -> None:
    """Verify one token."""
    text = _token(data)
    try:
        found = verify(text, keys=KEYS, issuer=ISSUER, audience=AUDIENCE, now=NOW)
    except Refusal as refusal:
        assert refusal.reason.category is Category.TOKEN
        # What one of its own header or payload refuses tells nothing of the token in what may be logged.
        assert len(text) < 32 or text not in str(refusal)
        return
    _agree(text, found)


def _token(data: bytes) -> str:
    kind, rest = data[:1], data[1:]
    if kind == HEADER:
        return signed(rest, claims())
    if kind == PAYLOAD:
        return signed(header(), rest)
    return rest.decode("utf-8", "replace")


def _agree(text: str, found: VerifiedToken) -> None:
    """Hold what was accepted against joserfc and against the claims as they are documented."""
    try:
        theirs = jws.deserialize_compact(text, _KEY, algorithms=["ES256"])
    except (JoseError, ValueError) as problem:
        raise AssertionError(f"joserfc refuses what was accepted: {problem}") from problem
    assert theirs.headers() == header()
    first, second, third = text.split(".")
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", part) for part in (first, second, third))
    said = theirs.payload
    assert urlsafe_b64decode(second + "=" * (-len(second) % 4)) == said
    try:
        read = Reader(said.decode(), depth=24, null=True, bounded=False, spaced=False).read()
    except (NotOne, UnicodeDecodeError) as problem:
        raise AssertionError("the payload has more than one meaning") from problem
    _documented(read)
    assert (found.agent, found.credential_id, found.tenant, found.use) == tuple(
        read[name] for name in ("sub", "jti", "tenant", "use")
    )
    assert found.task == read.get("task", "")
    assert found.thumbprint == read["cnf"]["x5t#S256"]
    assert found.status_index == read["status"]["status_list"]["idx"]
    # What it covers is what stands there: written again it is the same text.
    assert canonical(authorization_details(found.scope)) == canonical(read["authorization_details"])


def _documented(read: dict[str, Any]) -> None:
    assert read.keys() - {"task"} == _MEMBERS
    for name, form in _FORMS.items():
        assert type(read[name]) is str, name
        assert re.fullmatch(form, read[name]), name
    assert read["client_id"] == read["sub"]
    assert "task" not in read or re.fullmatch("task_" + _ID, read["task"])
    assert all(type(read[name]) is int for name in ("iat", "nbf", "exp"))
    assert _NOW < read["exp"] < 2**38
    assert max(read["iat"], read["nbf"]) <= _NOW + LEEWAY.total_seconds()
    assert read["cnf"].keys() == {"x5t#S256"}
    assert re.fullmatch("[A-Za-z0-9_-]{43}", read["cnf"]["x5t#S256"])
    (detail,) = read["authorization_details"]
    assert detail["locations"] == [AUDIENCE]
    assert detail["actions"] == sorted(set(detail["actions"])) != []
    assert ("identifier" in detail) != ("set" in detail)
    assert len(detail) == 6


def _seeds_hold() -> None:
    """The good ones among the seeds are accepted: a verifier that refuses everything is not what is tried."""
    for good in (SEEDS[0], HEADER + _json(header()), PAYLOAD + _json(claims())):
        verify(_token(good), keys=KEYS, issuer=ISSUER, audience=AUDIENCE, now=NOW)
    try:
        verify(_token(PAYLOAD + _json(claims(act={}))), keys=KEYS, issuer=ISSUER, audience=AUDIENCE, now=NOW)
    except Refusal as refusal:
        assert refusal.reason is Reason.TOKEN_CLAIMS_REFUSED


_seeds_hold()
