"""The attacks, row by row, with the tests that hold them; docs/threat-model.md shows this table.

A row without a test says what it waits for. `python -m tests.attacks.rows` writes the page.
"""

from typing import Final

from tests import results
from tests.attacks.row import Row
from tests.attacks.rows_asked import ASKED
from tests.attacks.rows_carried import CARRIED

PAGE: Final = results.ROOT / "docs" / "threat-model.md"
ROWS: Final[tuple[Row, ...]] = (*ASKED, *CARRIED)
LATER: Final = (("PostgreSQL", "races between replicas, a fail-over", "the only store is SQLite, in one process"),)


def table() -> str:
    """Return the table as the page shows it."""
    rows = []
    for each in ROWS:
        names = [f"[`{name.split('::')[1]}`](../tests/{name.split('::')[0]})" for name in each.tests]
        rows.append([each.id, each.title, "<br>".join(names) or f"*{each.waits}*"])
    rows += [[name, title, f"*{waits}*"] for name, title, waits in LATER]
    return results.table(["", "attack", "held by"], rows)


if __name__ == "__main__":
    results.put(PAGE, "rows", table())
