"""Task types: one that does not fit the rest of its bundle keeps it from loading."""

import pytest

from broker.policy.bundle import BundleProblem, compile_bundle, read_bundle
from tests.operations.world import BUNDLE

FILES = {path.name: path.read_bytes() for path in BUNDLE.iterdir() if path.is_file()}
DRIFT = 'drift = { refusals = 5, within = "PT10M", then = "suspend" }'
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
    ],
)
def test_it_does_not_load(old: str, new: str, says: str) -> None:
    with pytest.raises(BundleProblem) as problem:
        read_bundle(edited(old, new))
    assert says in str(problem.value)
    compile_bundle(FILES)


def test_taking_an_owner_away_stops_an_agent_though_a_type_names_it() -> None:
    read_bundle(edited('business_owner = "Head of Retail Support"', 'business_owner = ""'))
