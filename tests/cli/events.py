"""A log with an event of a chosen time."""

from contextlib import closing
from datetime import timedelta

from broker.app.ids import now
from broker.audit.event import BrokerStarted
from broker.operations.record import Recorder, RefusalMeter, commit
from broker.store.interface import Item
from tests.cli.setups import House, open_store


def started_at(house: House, later: timedelta) -> None:
    """Record that a broker started, this much later than now."""
    with closing(open_store(house)) as store:
        recorder = Recorder(store=store, salt=lambda: bytes(32), meter=RefusalMeter())
        entry = recorder.entry(BrokerStarted(at=now() + later, spiffe_id="spiffe://example.org/broker", version="1"))
        commit(store, [Item(accepted=lambda _: entry)])
