"""How deep a bundle's Cedar nests, told before the engine's parser meets it.

That parser is recursive and its stack is the process's: text that nests too deeply does not fail there, it ends the
issuer. So what a bundle may hold is bounded here, far above what a policy that can be read needs, and far below what
the stack holds (measured: 600 parentheses or 1,200 operators in a row are too many for 8 MiB).
"""

import re
from collections.abc import Mapping
from typing import Final

from broker.policy.problem import Findings

MAX_NESTING: Final = 64
MAX_CHAIN: Final = 400
MAX_DECLARATIONS: Final = 1000

_SCHEMA: Final = ".cedarschema"
# Text and comments hold no syntax; of the rest only what nests, what chains and what ends a statement is looked at.
_TOKEN: Final = re.compile(
    r'"(?:[^"\\]|\\.)*+"?|//[^\n]*|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<end>;)|(?P<chain>&&|\|\||[.+*<-]|\bif\b)',
    re.DOTALL,
)


def check_depth(files: Mapping[str, bytes], found: Findings) -> None:
    """Note every Cedar file that nests too deeply; such a bundle must not be parsed."""
    for name in sorted(files):
        if name.endswith((".cedar", _SCHEMA)):
            _check(name, files[name].decode(errors="replace"), found)


def _check(name: str, text: str, found: Findings) -> None:
    depth = chained = statements = 0
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "open":
                depth += 1
                chained += token[0] == "["  # an index is a link of a chain as well
            case "close":
                depth -= 1
            case "chain":
                chained += 1
            case "end":
                depth, chained, statements = 0, 0, statements + 1
            case _:
                continue
        if depth > MAX_NESTING or chained > MAX_CHAIN:
            sentence = f"nests deeper than {MAX_NESTING}, or has more than {MAX_CHAIN} operators in one statement"
            found.add(name, f"{sentence}; write several", line=text.count("\n", 0, token.start()) + 1)
            return
    if name.endswith(_SCHEMA) and statements > MAX_DECLARATIONS:
        found.add(name, f"has more than {MAX_DECLARATIONS} declarations; declare kinds, not things")
