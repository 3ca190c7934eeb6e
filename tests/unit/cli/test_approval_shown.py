"""How a held request looks: all of it, on lines of its own, and nothing that the agent wrote hides or spills (B5)."""

import json
from datetime import timedelta

import pytest

from broker.cli.approval_shown import lasting, lines, members, row
from broker.client import Approval
from broker.client.approval_decode import approval_of
from broker.intent import UNSHOWN
from tests.unit.client.test_approvals import NOW, message


def asked(parameters: str) -> Approval:
    return approval_of(message(parameters))


def test_everything_is_there_and_what_matters_most_is_last() -> None:
    found = list(lines(asked('{"amount":9900,"currency":"EUR"}'), NOW))
    names = [name for name, _ in found]
    text = "\n".join(f"{name}: {value}" for name, value in found)
    for each in (
        "appr_1, pending",
        "2026-11-21 11:58:00Z, 2m ago",
        "agent: spiffe://example.org/agent/assistant for tenant main",
        "Support; Security",
        "12 granted and 3 refused since 2026-11-21 09:00:00Z; of its held requests 2 approved, 1 denied",
        "of type case",
        "for ana",
        "parameter: amount = 9900",
        'parameter: currency = "EUR"',
        "resource: order 1234",
        "action: order.refund",
        "1 of 2 of duty or leads (may then be used for 5m; its owners do not count; ",
        "a bypass of at most 30m may be given)",
        "ben, 2026-11-21 12:00:00Z, by identity token",
        "13m from now",
    ):
        assert each in text, each
    assert names[-1] == "digest"
    assert names.index("parameter") < names.index("action") < names.index("needs")


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ('{"to":"DE\\u202e12"}', r'to = "DE\u{202e}12"'),
        ('{"to":"p\\u0430ypal"}', r'to = "p\u{430}ypal"'),
        ('{"to":"x\\u001b[2K\\u001b[1A"}', r'to = "x\u{1b}[2K\u{1b}[1A"'),
        ('{"to":"a\\naction        order.read"}', r'to = "a\naction        order.read"'),
        ('{"amount":"10"}', 'amount = "10"'),
        ('{"a\\u200bmount":10}', r'"a\u{200b}mount" = 10'),
        ('{"to":"[bold]x[/bold]"}', 'to = "[bold]x[/bold]"'),
    ],
)
def test_nothing_hides(parameters: str, shown: str) -> None:
    found = asked(parameters)
    said = list(lines(found, NOW))
    assert ("parameter", shown) in said
    for _, value in said:
        assert value.isprintable()
        assert not UNSHOWN.search(value)
    assert all(cell.isprintable() for cell in row(found, NOW))
    assert json.loads(json.dumps(members(found)))["details"]["intent"]["parameters"] == json.loads(parameters)


def test_a_row_is_short_and_counts_what_it_leaves_out() -> None:
    cells = row(asked(json.dumps({"note": "x" * 9000, "amount": 1})), NOW)
    assert max(map(len, cells)) < 120
    assert cells[5] == "amount=1 " + 'note="' + "x" * 34 + "... (+8967 characters)"
    many = row(asked(json.dumps({f"p{number}": number for number in range(400)})), NOW)
    assert many[5].endswith(" more)")
    assert len(many[5]) < 120


def test_ten_thousand_lines_do_not_push_the_question_away() -> None:
    found = list(lines(asked(json.dumps({"note": "p\n" * 10_000})), NOW))
    assert len(found) < 40
    assert found[-1][0] == "digest"


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=-5), "0s"),
        (timedelta(seconds=59.9), "59s"),
        (timedelta(minutes=65), "1h 5m"),
        (timedelta(days=2, minutes=1), "2d 1m"),
    ],
)
def test_a_duration_in_its_largest_units(duration: timedelta, text: str) -> None:
    assert lasting(duration) == text
