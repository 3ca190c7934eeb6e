"""Two thefts that were in the news, replayed and counted (A11): what opened here, and what opened with a shared key.

2025: tokens of a vendor's integration were stolen, and used from elsewhere against customers' CRM (Salesloft Drift).
2024: credentials were found in a ticket system, and used against everything that took them (Schneider Electric).
"""

import hmac
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
import pytest

from broker.v1 import task_pb2, task_pb2_grpc, types_pb2
from tests.attacks.entrances import ENTRANCES, PATIENCE, UNSAID, Outcome, exchange, outcome, request
from tests.attacks.house import House
from tests.attacks.test_tokens import SERVICE, Agent, Guarded, agent, guarded
from tests.fakes.trust_domain import pem
from tests.operations.world import SHARED, SUPPORT, WHOLESALE

STOLEN = 20
KEY = "sk-live-0123456789"


@dataclass(kw_only=True)
class SharedKeyShop:
    """The stand-in: the same orders behind one key, as such integrations are often protected."""

    opened: list[str] = field(default_factory=list)

    def read(self, key: str, order: str) -> bool:
        """Give an order to whoever holds the key; it cannot tell who that is."""
        if hmac.compare_digest(key, KEY):
            self.opened.append(order)
            return True
        return False


@pytest.fixture
async def shop(own_house: House) -> AsyncIterator[Guarded]:
    async with guarded(own_house) as running:
        yield running


async def stolen_from(owner: Agent) -> dict[str, str]:
    """What lay in the vendor's integration: a credential for each of so many orders, by order."""
    channel = owner.house.channel(owner.svid)
    names = [f"{1000 + number}" for number in range(STOLEN)]
    given = [await exchange(channel, request(resource=types_pb2.Resource(type="order", id=name))) for name in names]
    await channel.close()
    return {name: each.credential.token for name, each in zip(names, given, strict=True)}


async def opened(shop: Guarded, thief: Agent, tokens: dict[str, str]) -> Counter[str]:
    """Try every token on its own order, over one connection; count the answers."""
    pair = (thief.svid.private_key, thief.svid.certificate_chain)
    credentials = grpc.ssl_channel_credentials(pem(shop.house.home.bundle), *pair)
    options = [("grpc.ssl_target_name_override", SERVICE), ("grpc.use_local_subchannel_pool", 1)]
    counted: Counter[str] = Counter()
    async with grpc.aio.secure_channel(f"127.0.0.1:{shop.port}", credentials, options=options) as channel:
        stub = task_pb2_grpc.TaskServiceStub(channel)
        for name, token in tokens.items():
            asked = task_pb2.BeginTaskRequest(purpose=name, tenant="retail")
            shown = (("authorization", f"Bearer {token}"),)
            told = await outcome(stub.BeginTask(asked, metadata=shown, timeout=PATIENCE))
            counted[told.reason or "opened"] += 1
    return counted


async def test_a11_tokens_of_an_integration_used_from_elsewhere(own_house: House, shop: Guarded) -> None:
    owner = agent(own_house)
    tokens = await stolen_from(owner)
    # From every place that a thief may stand: another agent, another unit's, the victim's own next leaf.
    for who in (WHOLESALE, SHARED, SUPPORT):
        assert await opened(shop, agent(own_house, who), tokens) == {"TOKEN_HOLDER_MISMATCH": STOLEN}
    # And with the victim's name on a certificate of another domain's authority: TLS lets none of it in.
    forged = own_house.svid(SUPPORT, by=own_house.partner)
    thief = Agent(house=own_house, svid=forged, tenant="retail")
    assert await opened(shop, thief, dict([next(iter(tokens.items()))])) == {UNSAID: 1}
    # For scale: one key, found in the same place.
    before = SharedKeyShop()
    assert sum(before.read(KEY, name) for name in tokens) == STOLEN
    # The control: to its holder every one of them still opens its order, and no other.
    assert await opened(shop, owner, tokens) == {"opened": STOLEN}
    shuffled = dict(zip(tokens, [*list(tokens.values())[1:], next(iter(tokens.values()))], strict=True))
    assert await opened(shop, owner, shuffled) == {"TOKEN_SCOPE_EXCEEDED": STOLEN}


async def test_a11_credentials_found_in_tickets_used_against_everything(own_house: House, shop: Guarded) -> None:
    """The text alone, by whoever reads the ticket: at every entrance of the broker, and at the service."""
    house, owner = own_house, agent(own_house)
    tokens = await stolen_from(owner)
    found = next(iter(tokens.values()))
    assert await shop.call(owner, found, order="1000") == ""  # the control
    nobody = house.svid("spiffe://example.org/nobody/in-particular")
    opens = 0
    for entrance in ENTRANCES:
        if entrance.name.startswith("Health."):
            continue
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{house.door.port}",
            grpc.composite_channel_credentials(
                grpc.ssl_channel_credentials(pem(house.home.bundle), nobody.private_key, nobody.certificate_chain),
                grpc.access_token_call_credentials(found),
            ),
            options=[("grpc.ssl_target_name_override", "broker.example.org"), ("grpc.use_local_subchannel_pool", 1)],
        )
        told: Outcome = await entrance(channel)
        opens += told.answer is not None
        await channel.close()
    assert opens == 0
    reader = Agent(house=house, svid=nobody, tenant="retail")
    assert await opened(shop, reader, tokens) == {"TOKEN_HOLDER_MISMATCH": STOLEN}
    # Tickets are read for years. Even with the victim's own key these would open nothing by tomorrow: each has an end.
    house.time.ahead += timedelta(minutes=6)
    lived = [event for event in await house.log() if event["type"] == "credential.granted"]
    assert len(lived) == STOLEN
    assert all(event["expires_at"] for event in lived)
    before = SharedKeyShop()
    assert sum(before.read(KEY, name) for name in tokens) == STOLEN
