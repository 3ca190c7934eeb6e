"""Task types: one that does not fit the rest of its bundle keeps it from loading."""

import pytest

from broker.policy.bundle import BundleProblem, compile_bundle, read_bundle
from broker.policy.customers import sign_ins_of
from tests.operations.world import BUNDLE, ORDERS

FILES = {path.name: path.read_bytes() for path in BUNDLE.iterdir() if path.is_file()}
DRIFT = 'drift = { refusals = 5, within = "PT10M", then = "suspend", escalate_to = "refund-approvers" }'
TOLD = ', escalate_to = "refund-approvers"'
APPROVED = 'approved_by = "Head of Retail Support"'


def edited(old: str, new: str) -> dict[str, bytes]:
    text = FILES["entities.toml"].decode()
    assert old in text
    return FILES | {"entities.toml": text.replace(old, new, 1).encode()}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (APPROVED, 'approved_by = "Somebody Else"', "who approves"),
        (APPROVED, "", "approved_by is missing"),
        (APPROVED, f'{APPROVED}\ncolour = "red"', "unknown key 'colour'"),
        ('begun_by = ["agent", ', 'begun_by = ["spiffe://example.org/service/none", ', "not a [[service]]"),
        ('begun_by = ["agent", ', 'begun_by = ["anybody", ', "begun_by is a list"),
        (
            'actions = ["order.read", "order.list"',
            'actions = ["order.reed", "order.list"',
            "not an action of the schema",
        ),
        (
            'actions = ["order.read", "order.list"',
            'actions = ["broker.revoke", "order.list"',
            "not an action of the schema",
        ),
        ('resource_types = ["order", "customer"]', 'resource_types = ["invoice"]', "names 'invoice'"),
        ('data_domains = ["sales"]', 'data_domains = ["health"]', "names 'health'"),
        ('environments = ["production"]', 'environments = ["staging"]', "names 'staging'"),
        ('maximum_age = "PT8H"', 'maximum_age = "PT200H"', "maximum_age is a duration"),
        ('maximum_age = "PT8H"', 'maximum_age = "PT8H"\nheartbeat = "10s"', "heartbeat is a duration"),
        ('maximum_age = "PT8H"', 'maximum_age = "PT8H"\nlimits = { "order.refund" = 1 }', "limits is a table"),
        ('maximum_age = "PT8H"', 'maximum_age = "PT8H"\nlimits = { "order.pay" = { a = [1] } }', "names 'order.pay'"),
        ('name = "wholesale-case"', 'name = "customer-case"', "twice"),
        (DRIFT, "drift = 5", "drift is such as"),
        (DRIFT, DRIFT.replace("5", "0"), "1 to 100 refusals"),
        (DRIFT, DRIFT.replace("5", "101"), "1 to 100 refusals"),
        (DRIFT, DRIFT.replace("5", "true"), "1 to 100 refusals"),
        (DRIFT, DRIFT.replace("PT10M", "PT0S"), "drift is such as"),
        (DRIFT, DRIFT.replace("PT10M", "P400D"), "within at most"),
        (DRIFT, DRIFT.replace("PT10M", "ten minutes"), "drift is such as"),
        (DRIFT, DRIFT.replace('"suspend"', '"stop"'), '"report" or "suspend"'),
        (DRIFT, DRIFT.replace('"suspend"', '["suspend"]'), '"report" or "suspend"'),
        (DRIFT, DRIFT.replace(', then = "suspend"', ""), '"report" or "suspend"'),
        (DRIFT, DRIFT.replace(" }", ', escalate = "none" }'), "drift is such as"),
        (DRIFT, DRIFT.replace(TOLD, ""), 'then = "suspend" needs escalate_to'),
        (DRIFT, DRIFT.replace(TOLD, ', escalate_to = ""'), "escalate_to is the name of a group, not ''"),
        (
            DRIFT,
            DRIFT.replace(TOLD, ', escalate_to = "The Desk"'),
            "escalate_to is the name of a group, not 'The",
        ),
        (DRIFT, DRIFT.replace(TOLD, ", escalate_to = 7"), "escalate_to is the name of a group, not 7"),
        (DRIFT, DRIFT.replace(TOLD, ', escalate_to = ["desk"]'), "escalate_to is the name of a group, not ['desk']"),
        (
            DRIFT,
            DRIFT.replace("refund-approvers", "nobody"),
            "escalate_to names 'nobody', which nobody of",
        ),
        (DRIFT, DRIFT.replace("refund-approvers", "order-reader"), "which nobody of this file is in"),
    ],
)
def test_it_does_not_load(old: str, new: str, says: str) -> None:
    with pytest.raises(BundleProblem) as problem:
        read_bundle(edited(old, new))
    assert says in str(problem.value)
    compile_bundle(FILES)


CHAT = "spiffe://example.org/service/chat"
CUSTOMERS = f'{{ front_end = "{CHAT}", issuer = "https://login.shop.example", audience = "chat" }}'


def with_customers(customers: str, *more: str) -> dict[str, bytes]:
    """Give the first type these customers, and the second one, which another front end begins, those."""
    text = FILES["entities.toml"].decode().replace(APPROVED, f"{APPROVED}\ncustomers = {customers}", 1)
    other = 'name = "wholesale-case"\n'
    begun = f'begun_by = ["agent", "{ORDERS}"]\n'
    return FILES | {"entities.toml": text.replace(other, other + begun + "".join(more), 1).encode()}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (CHAT, ORDERS, "which may not begin it"),
        (CHAT, "spiffe://example.org/agent/support-assistant", "which may not begin it"),
        (CHAT, "agent", "front_end must be a SPIFFE ID"),
        ("https://login", "http://login", "issuer is an https URL"),
        ("shop.example", "shop.example#x", "issuer is an https URL"),
        ('"chat"', '""', "audience is 1 to 255"),
        ('"chat"', '"caf\u00e9"', "audience is 1 to 255"),
        (', audience = "chat"', "", "audience is missing"),
        ("audience", "aud", "unknown key 'aud'"),
        (CUSTOMERS, f"{CUSTOMERS}, {CUSTOMERS}", "names one sign-in twice"),
        (f"[{CUSTOMERS}]", '["https://login.shop.example"]', "customers must be written as"),
    ],
)
def test_customers_that_cannot_be_told_do_not_load(old: str, new: str, says: str) -> None:
    customers = f"[{CUSTOMERS}]"
    assert old in customers
    with pytest.raises(BundleProblem) as problem:
        read_bundle(with_customers(customers.replace(old, new, 1)))
    assert says in str(problem.value)
    compile_bundle(with_customers(customers))


def test_a_client_is_one_front_ends() -> None:
    """Of two that share one, each could use what was shown to the other; one of its own may serve two types."""
    mine, theirs = f"[{CUSTOMERS}]", CUSTOMERS.replace(CHAT, ORDERS)
    with pytest.raises(BundleProblem, match="several front ends"):
        read_bundle(with_customers(mine, f"customers = [{theirs}]\n"))
    for other in (theirs.replace('"chat"', '"orders"'), theirs.replace("login.shop", "login.outlet")):
        register = compile_bundle(with_customers(mine, f"customers = [{other}]\n")).register
        assert sign_ins_of(register, CHAT) == {"https://login.shop.example": {"chat"}}
        assert len(sign_ins_of(register, ORDERS)) == 1
    assert sign_ins_of(register, "spiffe://example.org/agent/support-assistant") == {}


def test_somebody_who_is_told_speaks_for_each_tenant_of_the_type() -> None:
    """The refund approvers are retail's; a type of wholesale tells nobody by naming them."""
    of_wholesale = edited('tenants = ["wholesale"]\nservices', f'tenants = ["wholesale"]\n{DRIFT}\nservices')
    with pytest.raises(BundleProblem) as problem:
        read_bundle(of_wholesale)
    assert "task_type wholesale-case: drift: nobody in 'refund-approvers' speaks for tenant 'wholesale'" in str(
        problem.value
    )
    told = of_wholesale["entities.toml"].replace(DRIFT.encode(), DRIFT.replace("refund-approvers", "duty").encode())
    compile_bundle(FILES | {"entities.toml": told})


@pytest.mark.parametrize(("drift", "group"), [(DRIFT, "refund-approvers"), (DRIFT.replace(TOLD, ""), "")])
def test_a_report_may_tell_nobody(drift: str, group: str) -> None:
    found = compile_bundle(edited(DRIFT, drift.replace("suspend", "report")))
    kind = found.register.task_types["customer-case"]
    assert kind.drift is not None
    assert (kind.drift.escalate_to, kind.drift.suspends) == (group, False)


def test_taking_an_owner_away_stops_an_agent_though_a_type_names_it() -> None:
    read_bundle(edited('business_owner = "Head of Retail Support"', 'business_owner = ""'))
