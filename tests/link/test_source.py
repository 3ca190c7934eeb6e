"""The process's own identity from the Workload API: chosen, explained, kept current, and taken back."""

from pathlib import Path

import grpc
import pytest
from spiffe import WorkloadApiClient

from broker.link.source import IdentityAmbiguous, IdentitySource, IdentityUnavailable
from tests.fakes.trust_domain import TrustDomain, pem
from tests.fakes.workload_api import Given, WorkloadApi
from tests.link.helpers import until

HOME, PARTNER = TrustDomain("example.org"), TrustDomain("partner.test")


async def opened(agent: WorkloadApi, *, spiffe_id: str | None = None, hint: str | None = None) -> IdentitySource:
    return await IdentitySource.open(socket=agent.socket, spiffe_id=spiffe_id, hint=hint, timeout=10)


async def test_identity_and_bundles_are_those_given(agent: WorkloadApi) -> None:
    svid = HOME.svid("/broker", depth=1)
    agent.give_svid(svid, HOME, PARTNER)
    source = await opened(agent)
    identity = source.identity()
    assert str(identity.spiffe_id) == svid.id
    assert identity.certificate_chain == svid.certificate_chain
    assert identity.private_key == svid.private_key
    assert "PRIVATE" not in repr(identity)
    assert dict(source.bundles().authorities) == {"example.org": HOME.bundle, "partner.test": PARTNER.bundle}
    assert source.last_error is None
    source.close()


async def test_several_svids_and_none_named_is_an_error_that_lists_them(agent: WorkloadApi) -> None:
    agent.give(Given(svid=HOME.svid("/one"), domain=HOME, hint="internal"), Given(svid=HOME.svid("/two"), domain=HOME))
    with pytest.raises(IdentityAmbiguous, match=r"example\.org/one.*internal.*example\.org/two") as raised:
        await opened(agent)
    assert "spiffe_id" in raised.value.fix


@pytest.mark.parametrize(
    ("spiffe_id", "hint", "expected"),
    [
        ("spiffe://example.org/two", None, "spiffe://example.org/two"),
        (None, "external", "spiffe://example.org/two"),
        (None, "internal", "spiffe://example.org/one"),
        ("spiffe://example.org/one", "internal", "spiffe://example.org/one"),
    ],
)
async def test_several_svids_and_one_named(
    agent: WorkloadApi, spiffe_id: str | None, hint: str | None, expected: str
) -> None:
    agent.give(
        Given(svid=HOME.svid("/one"), domain=HOME, hint="internal"),
        Given(svid=HOME.svid("/two"), domain=HOME, hint="external"),
    )
    source = await opened(agent, spiffe_id=spiffe_id, hint=hint)
    assert str(source.identity().spiffe_id) == expected
    source.close()


async def failure_of(socket: str, *, spiffe_id: str | None = None) -> IdentityUnavailable:
    with pytest.raises(IdentityUnavailable) as raised:
        await IdentitySource.open(socket=socket, spiffe_id=spiffe_id, hint=None, timeout=0.5)
    return raised.value


async def test_each_failure_to_open_names_its_fix(agent: WorkloadApi, tmp_path: Path) -> None:
    assert "registration entry" in (await failure_of(agent.socket)).fix
    agent.give_svid(HOME.svid("/one"), HOME)
    other = await failure_of(agent.socket, spiffe_id="spiffe://example.org/other")
    assert "example.org/one" in other.message
    assert "example.org/other" in other.message
    agent.refuse(grpc.StatusCode.INTERNAL)
    assert "log" in (await failure_of(agent.socket)).fix
    assert "Start the agent" in (await failure_of(f"unix:{tmp_path}/missing.sock")).fix
    assert "Start the agent" in (await failure_of(str(tmp_path / "bare-path.sock"))).fix
    assert "SPIFFE_ENDPOINT_SOCKET" in (await failure_of("http://agent")).fix


def fail() -> None:
    raise ValueError


async def test_a_rotation_is_taken_over_and_announced(agent: WorkloadApi) -> None:
    agent.give_svid(HOME.svid("/broker"), HOME)
    source = await opened(agent)
    announced: list[str] = []
    source.subscribe(fail)
    source.subscribe(lambda: announced.append(source.identity().thumbprint))
    unsubscribe = source.subscribe(lambda: announced.append("never"))
    unsubscribe()
    before, trust = source.identity(), source.bundles()
    second = HOME.svid("/broker")
    agent.give_svid(second, HOME)
    await until(lambda: announced)
    assert source.identity().certificate_chain == second.leaf_pem
    assert announced == [source.identity().thumbprint] != [before.thumbprint]
    assert source.bundles() is trust, "the same authorities are the same epoch"
    source.close()


async def test_the_epoch_rises_with_each_change_of_bundles(agent: WorkloadApi) -> None:
    domain, svid = TrustDomain("example.org"), HOME.svid("/broker")
    agent.give_svid(svid, domain)
    source = await opened(agent)
    epochs = [source.bundles().epoch]
    domain.add_authority()
    agent.give_svid(svid, domain)
    await until(lambda: len(source.bundles().authorities["example.org"]) == 2)
    epochs.append(source.bundles().epoch)
    agent.give_svid(svid, domain, PARTNER)
    await until(lambda: "partner.test" in source.bundles().authorities)
    epochs.append(source.bundles().epoch)
    agent.give_svid(svid, domain)
    await until(lambda: "partner.test" not in source.bundles().authorities)
    epochs.append(source.bundles().epoch)
    assert epochs == sorted(set(epochs))
    assert set(pem(source.bundles().authorities["example.org"])) == set(pem(domain.bundle))
    source.close()


async def test_an_agent_restart_is_survived(agent: WorkloadApi) -> None:
    first, second = HOME.svid("/broker"), HOME.svid("/broker")
    agent.give_svid(first, HOME)
    source = await opened(agent)
    agent.stop()
    await until(lambda: source.last_error is not None)
    assert source.identity().certificate_chain == first.leaf_pem, "the last good one stays while the agent is away"
    agent.give_svid(second, HOME)
    agent.start()
    await until(lambda: source.identity().certificate_chain == second.leaf_pem, seconds=10)
    assert source.last_error is None
    source.close()


@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNKNOWN])
async def test_a_stream_that_ends_for_good_is_begun_again_without_a_busy_loop(
    agent: WorkloadApi, code: grpc.StatusCode
) -> None:
    first, second = HOME.svid("/broker"), HOME.svid("/broker")
    agent.give_svid(first, HOME)
    source = await opened(agent)
    asked = agent.requests
    agent.refuse(code)
    await until(lambda: agent.requests >= asked + 3)
    assert agent.requests < asked + 6
    assert source.identity().certificate_chain == first.leaf_pem
    agent.give_svid(second, HOME)
    await until(lambda: source.identity().certificate_chain == second.leaf_pem)
    source.close()


async def test_each_attempt_closes_its_own_channel(agent: WorkloadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []
    close = WorkloadApiClient.close

    def counting(client: WorkloadApiClient) -> None:
        closed.append(client)
        close(client)

    monkeypatch.setattr(WorkloadApiClient, "close", counting)
    agent.give_svid(HOME.svid("/broker"), HOME)
    source = await opened(agent)
    agent.refuse(grpc.StatusCode.UNAVAILABLE)
    await until(lambda: agent.requests >= 3)
    source.close()
    assert len(set(map(id, closed))) == agent.requests


async def test_back_off_grows(agent: WorkloadApi) -> None:
    agent.refuse(grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(IdentityUnavailable):
        await IdentitySource.open(socket=agent.socket, spiffe_id=None, hint=None, timeout=1.5)
    assert 2 <= agent.requests <= 6


async def test_a_message_of_garbage_changes_nothing(agent: WorkloadApi) -> None:
    first, second = HOME.svid("/broker"), HOME.svid("/broker")
    agent.give_svid(first, HOME)
    source = await opened(agent)
    agent.give_garbage()
    await until(lambda: source.last_error is not None)
    assert source.identity().certificate_chain == first.leaf_pem
    agent.give_svid(second, HOME)
    await until(lambda: source.identity().certificate_chain == second.leaf_pem)
    source.close()


async def test_permission_denied_for_good_ends_the_use_of_the_svid(agent: WorkloadApi) -> None:
    agent.give_svid(HOME.svid("/broker"), HOME)
    source = await opened(agent)
    epoch = source.bundles().epoch
    agent.refuse(grpc.StatusCode.PERMISSION_DENIED)
    await until(lambda: not source.bundles().authorities)
    assert source.bundles().epoch > epoch
    with pytest.raises(IdentityUnavailable, match="PERMISSION_DENIED"):
        source.identity()
    agent.give_svid(HOME.svid("/broker"), HOME)
    await until(lambda: source.bundles().authorities)
    assert str(source.identity().spiffe_id) == "spiffe://example.org/broker"
    source.close()


async def test_an_svid_that_a_message_no_longer_holds_is_no_longer_used(agent: WorkloadApi) -> None:
    agent.give_svid(HOME.svid("/broker"), HOME)
    source = await opened(agent, spiffe_id="spiffe://example.org/broker")
    agent.give_svid(HOME.svid("/other"), HOME)
    await until(lambda: source.last_error is not None)
    with pytest.raises(IdentityUnavailable, match=r"example\.org/other"):
        source.identity()
    source.close()


async def test_close_ends_the_stream(agent: WorkloadApi) -> None:
    agent.give_svid(HOME.svid("/broker"), HOME)
    source = await opened(agent)
    await until(lambda: agent.streams == 1)
    source.close()
    source.close()
    await until(lambda: agent.streams == 0)
