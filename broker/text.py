"""Text: what a text that somebody gives may hold, wherever it is given: a name, a reason, a reference, a key.

It stands for good on one line of a log, a terminal and a table, so whatever moves that line is refused when it is
given. What only looks like something else is escaped where it is shown: see `visible`.
"""

import re
from typing import Final

# C0, C1 and DEL (NUL among them), the two line breaks of Unicode, and halves of a pair, which have no UTF-8.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_fit(text: str) -> bool:
    """Whether a text has neither control characters nor line breaks, and can be written down."""
    return not _UNFIT.search(text)
