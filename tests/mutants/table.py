"""Every mutant."""

from typing import Final

from tests.mutants.asking import ASKING
from tests.mutants.escalating import ESCALATING
from tests.mutants.guarding import GUARDING
from tests.mutants.identity import IDENTITY
from tests.mutants.mutant import Mutant
from tests.mutants.remembering import REMEMBERING
from tests.mutants.spending import SPENDING

MUTANTS: Final[tuple[Mutant, ...]] = (*IDENTITY, *ASKING, *ESCALATING, *REMEMBERING, *SPENDING, *GUARDING)
