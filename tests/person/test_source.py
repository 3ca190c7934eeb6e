"""Keys of identity issuers over real TLS: discovery, rotation, and every way in which an issuer can misbehave."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.credential.token import Token
from broker.errors import Reason, Refusal
from broker.person import source
from broker.person.identity_token import Provider
from broker.person.source import MAX_DOCUMENT, FetchProblem, IdentityIssuers, fetch_keys
from tests.fakes import oidc_issuer
from tests.fakes.identity import SUBJECT, IdentityKey
from tests.fakes.oidc_issuer import DISCOVERY, KEYS, Handler, OidcIssuer
from tests.polling import eventually


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[OidcIssuer]:
    opened = OidcIssuer(folder=tmp_path).start()
    yield opened
    opened.stop()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "FETCH_SECONDS", 0.5)


def token(text: str) -> Token:
    return Token(text, credential_id="a person")


def answer(issuers: IdentityIssuers, text: str) -> str:
    """Return whom a token is of, or why it is refused."""
    try:
        return issuers.verify(token(text), datetime.now(UTC), {}).subject
    except Refusal as refused:
        return f"{refused.reason.name} {refused.detail}".strip()


async def asked(issuers: IdentityIssuers, text: str) -> str:
    await issuers.prepare(token(text))
    return answer(issuers, text)


async def holds(condition: Callable[[], bool]) -> None:
    async def probe() -> bool | None:
        return condition() or None

    assert await eventually(probe)


UNAVAILABLE = Reason.IDENTITY_UNAVAILABLE.name
UNKNOWN_KEY = f"{Reason.IDENTITY_TOKEN_REFUSED.name} kid"


def test_keys_are_found_by_discovery(issuer: OidcIssuer) -> None:
    assert list(fetch_keys(issuer.source())) == [issuer.keys[0].kid]
    assert issuer.asked == {DISCOVERY: 1, KEYS: 1}


async def test_a_first_token_waits_for_the_first_keys_and_is_verified(issuer: OidcIssuer) -> None:
    with IdentityIssuers([issuer.source()]).following() as issuers:
        assert await asked(issuers, issuer.token()) == SUBJECT
        assert await asked(issuers, issuer.token(exp=1)) == f"{Reason.IDENTITY_TOKEN_REFUSED.name} exp"
    assert issuer.asked == {DISCOVERY: 1, KEYS: 1}


async def test_a_rotated_key_is_fetched_when_it_is_first_named_and_the_old_one_counts_no_more(
    issuer: OidcIssuer,
) -> None:
    with IdentityIssuers([issuer.source()], spacing=0).following() as issuers:
        before = issuer.token()
        assert await asked(issuers, before) == SUBJECT
        old, issuer.keys = issuer.keys[0], [IdentityKey.make("k2", "RS256")]
        assert await asked(issuers, issuer.token()) == SUBJECT
        assert await asked(issuers, before) == UNKNOWN_KEY
        assert old.kid != issuer.keys[0].kid


async def test_keys_are_refreshed_on_a_schedule(issuer: OidcIssuer) -> None:
    with IdentityIssuers([issuer.source(keys_max_age=timedelta(seconds=2))]).following() as issuers:
        assert await asked(issuers, issuer.token()) == SUBJECT
        issuer.keys = [IdentityKey.make("k2")]
        await holds(lambda: answer(issuers, issuer.token()) == SUBJECT)


async def test_unknown_keys_make_nobody_ask_an_issuer_again_and_again(issuer: OidcIssuer) -> None:
    with IdentityIssuers([issuer.source()]).following() as issuers:
        assert await asked(issuers, issuer.token()) == SUBJECT
        for number in range(50):
            stranger = IdentityKey.make(f"stranger-{number}")
            assert await asked(issuers, issuer.token(stranger)) == UNKNOWN_KEY
        assert issuer.asked[KEYS] == 1
    with IdentityIssuers([issuer.source()], spacing=0).following() as issuers:  # the fetches would be seen here
        assert await asked(issuers, issuer.token()) == SUBJECT
        assert await asked(issuers, issuer.token(IdentityKey.make("stranger"))) == UNKNOWN_KEY
        assert issuer.asked[KEYS] > 2


async def test_a_hundred_who_name_an_unknown_key_at_once_share_one_fetch(issuer: OidcIssuer) -> None:
    with IdentityIssuers([issuer.source()], spacing=0).following() as issuers:
        assert await asked(issuers, issuer.token()) == SUBJECT
        issuer.keys = [IdentityKey.make("k2")]
        found = await asyncio.gather(*(asked(issuers, issuer.token()) for _ in range(100)))
        assert set(found) == {SUBJECT}
        assert issuer.asked[KEYS] <= 3


async def test_a_token_of_nobody_we_know_makes_nobody_fetch(issuer: OidcIssuer) -> None:
    with IdentityIssuers([issuer.source()], spacing=0).following() as issuers:
        assert await asked(issuers, issuer.token()) == SUBJECT
        for text in (issuer.token(iss="https://evil.example"), issuer.token(iss="https://127.0.0.1:1/"), "x", "a.b.c"):
            assert (await asked(issuers, text)).startswith(Reason.IDENTITY_TOKEN_REFUSED.name)
        await issuers.prepare(None)
        assert issuer.asked[KEYS] == 1


async def test_without_issuers_no_token_counts(issuer: OidcIssuer) -> None:
    with IdentityIssuers([]).following() as issuers:
        assert await asked(issuers, issuer.token()) == f"{Reason.IDENTITY_TOKEN_REFUSED.name} iss"


# --- an issuer that is away ----------------------------------------------------------------------------------------


async def test_the_last_good_keys_are_kept_for_a_time_and_no_longer(issuer: OidcIssuer) -> None:
    with IdentityIssuers([issuer.source(keys_max_age=timedelta(seconds=2))]).following() as issuers:
        good = issuer.token()
        assert await asked(issuers, good) == SUBJECT
        issuer.instead[DISCOVERY] = oidc_issuer.status(503)
        asked_before = issuer.asked[DISCOVERY]
        await holds(lambda: issuer.asked[DISCOVERY] > asked_before)
        assert answer(issuers, good) == SUBJECT
        await holds(lambda: answer(issuers, good) == UNAVAILABLE)
        issuer.instead.clear()
        await holds(lambda: answer(issuers, good) == SUBJECT)  # it comes back by itself


async def test_an_issuer_that_is_down_is_unavailable_and_harms_no_other(issuer: OidcIssuer, tmp_path: Path) -> None:
    (tmp_path / "down").mkdir()
    down = OidcIssuer(folder=tmp_path / "down").start()
    url, sources = down.url, [down.source(), issuer.source()]
    down.stop()
    with IdentityIssuers(sources, spacing=0).following() as issuers:
        assert await asked(issuers, down.token(iss=url)) == UNAVAILABLE
        assert await asked(issuers, issuer.token()) == SUBJECT


async def test_a_slow_issuer_holds_up_a_caller_for_a_bounded_time(
    issuer: OidcIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PATIENCE_SECONDS", 0.2)
    issuer.instead[KEYS] = oidc_issuer.drip
    with IdentityIssuers([issuer.source()], spacing=0).following() as issuers:
        assert await asked(issuers, issuer.token()) == UNAVAILABLE


# --- an issuer that misbehaves -------------------------------------------------------------------------------------

BAD: dict[str, tuple[Callable[[Handler], None], str]] = {
    "redirect-301": (oidc_issuer.status(301, Location="/realm/keys"), "answers 301: redirects are not followed"),
    "redirect-302-elsewhere": (oidc_issuer.status(302, Location="https://evil.example/"), "redirects are not followed"),
    "redirect-307": (oidc_issuer.status(307, Location="/realm/keys"), "redirects are not followed"),
    "not-found": (oidc_issuer.status(404), "answers 404"),
    "no-content": (oidc_issuer.status(204), "answers 204"),
    "partial": (oidc_issuer.status(206), "answers 206"),
    "error": (oidc_issuer.status(500), "answers 500"),
    "oversized": (oidc_issuer.content(b" " * (MAX_DOCUMENT + 1)), "longer than"),
    "endless": (oidc_issuer.endless, "longer than"),
    "packed": (oidc_issuer.content(b"{}", Content_Encoding="gzip"), "packed"),
    "cut-off": (oidc_issuer.cut, "ends early"),
    "no-http": (oidc_issuer.nonsense, "does not answer in HTTP"),
    "html": (oidc_issuer.content(b"<html>secret</html>"), "not one JSON object"),
    "duplicates": (oidc_issuer.content(b'{"issuer": "a", "issuer": "b"}'), "not one JSON object"),
    "empty": (oidc_issuer.content(b""), "not one JSON object"),
}


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize(("instead", "says"), BAD.values(), ids=BAD)
def test_what_is_no_good_answer_gives_no_keys(
    issuer: OidcIssuer, path: str, instead: Callable[[Handler], None], says: str
) -> None:
    issuer.instead[path] = instead
    with pytest.raises(FetchProblem) as problem:
        fetch_keys(issuer.source())
    assert says in str(problem.value)
    assert "secret" not in str(problem.value)
    issuer.instead.clear()
    assert fetch_keys(issuer.source())


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize("instead", [oidc_issuer.drip, oidc_issuer.drip_without_length, oidc_issuer.drip_headers])
@pytest.mark.usefixtures("short")
def test_who_sends_slowly_is_given_up(issuer: OidcIssuer, path: str, instead: Callable[[Handler], None]) -> None:
    issuer.instead[path] = instead
    with pytest.raises(FetchProblem, match="did not answer within"):
        fetch_keys(issuer.source())


@pytest.mark.usefixtures("short")
def test_who_never_answers_is_given_up(issuer: OidcIssuer) -> None:
    issuer.instead[DISCOVERY] = lambda _: time.sleep(5)
    with pytest.raises(FetchProblem, match="did not answer within"):
        fetch_keys(issuer.source())


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"issuer": "https://evil.example"}, "another issuer's"),
        ({"issuer": None}, "another issuer's"),
        ({"jwks_uri": "http://127.0.0.1/keys"}, "not an https URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "not an https URL"),
    ],
)
def test_a_document_has_to_be_this_issuers_and_lead_to_tls(
    issuer: OidcIssuer, document: dict[str, str], says: str
) -> None:
    issuer.document = document
    with pytest.raises(FetchProblem, match=says):
        fetch_keys(issuer.source())
    assert issuer.asked[KEYS] == 0


def test_an_issuer_of_another_name_is_not_ours_though_the_server_is(issuer: OidcIssuer) -> None:
    """`.../realm/` and `.../realm` are asked at the same place; what is there names one of them."""
    other = Provider(issuer=issuer.url + "/", audience="x")
    with pytest.raises(FetchProblem, match="another issuer's"):
        fetch_keys(issuer.source(provider=other))


def test_a_certificate_of_another_authority_is_refused(issuer: OidcIssuer, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(oidc_issuer.certificates(("127.0.0.1",))[0])
    for ca_file in (stranger, None):
        with pytest.raises(FetchProblem, match="its certificate does not hold"):
            fetch_keys(issuer.source(ca_file=ca_file))


def test_a_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    issuer = OidcIssuer(folder=tmp_path, names=("login.example.org", "127.0.0.2")).start()
    with pytest.raises(FetchProblem, match="its certificate does not hold"):
        fetch_keys(issuer.source())
    issuer.stop()


def test_authorities_that_cannot_be_read_are_said_to_be(issuer: OidcIssuer, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for ca_file in (tmp_path / "none.pem", empty):
        with pytest.raises(FetchProblem, match="cannot be read as authorities"):
            fetch_keys(issuer.source(ca_file=ca_file))


async def test_no_token_and_no_answer_stands_in_the_log(
    issuer: OidcIssuer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    issuer.instead[KEYS] = oidc_issuer.content(b"secret")
    text = issuer.token()
    with IdentityIssuers([issuer.source()], spacing=0).following() as issuers:
        assert await asked(issuers, text) == UNAVAILABLE
        await holds(lambda: issuer.asked[KEYS] > 0)
    said = caplog.text + "".join(capsys.readouterr())
    assert "secret" not in said
    assert text.split(".")[2] not in said
