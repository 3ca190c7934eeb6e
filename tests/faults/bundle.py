"""The bundle of a broker that is made to fail: the example, with limits that are met, and credentials that stay."""

import re
from typing import Final

from tests.unit.policy.bundles import replaced
from tests.unit.policy.test_limit import REFUND, limited, written

REFUNDS: Final = 3
# The most that a limit of a policy may ever have counted, by policy and period.
MAXIMA: Final = {
    ("order-readers-may-look-up-orders", "agent"): 1_000_000,
    ("support-may-refund", "task"): REFUNDS,
}


def bundle() -> dict[str, bytes]:
    """Return the files: whatever is granted is charged, so that no crash can lose a charge unseen.

    Nothing expires within a run, and so nothing is forgotten: a row that is missing was lost.
    """
    files = limited({"per": "agent", "max": 1_000_000}, policy='@id("order-readers-may-look-up-orders")')
    files = replaced("writes.cedar", REFUND, f"{REFUND}\n{written({'per': 'task', 'max': REFUNDS})}", files)
    return {
        name: re.sub(rb'@max_lifetime\("PT[125]M"\)', b'@max_lifetime("PT50M")', content)
        for name, content in files.items()
    }
