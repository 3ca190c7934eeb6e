"""A process that commits groups until it is killed; after every third it says which ones are durable."""

import sys

from broker.store.sqlite import SqliteStore
from tests.contract.store_builders import grant, granting

store = SqliteStore(sys.argv[1], log_id="log_1", cursor_key=b"k" * 32)
count = store.size()
while True:
    durable: list[str] = []
    for _ in range(3):
        names = [f"{count}-{number}" for number in range(7)]
        store.commit([granting(grant(name, index=number)) for number, name in enumerate(names)])
        count += 7
        durable += names
    sys.stdout.write(" ".join(durable) + "\n")
    sys.stdout.flush()
