"""Where the fleet and the proxy meet: a model's name leads to a `Model`, and a model to its `Target`s.

The fleet adds and removes targets, the proxy claims and releases them, and says which of them fail. Claim and send are
separate: a claim is one synchronous decision, so a target that is taken away can never be given to a request in
between; sending comes after.
"""

from router.catalog.balance import Balance
from router.catalog.catalog import Catalog
from router.catalog.circuit import Circuit
from router.catalog.hops import Edits, Group, Hop, Manner, Wants
from router.catalog.model import Limits, Model
from router.catalog.target import Address, Target

__all__ = [
    "Address", "Balance", "Catalog", "Circuit", "Edits", "Group", "Hop", "Limits", "Manner", "Model", "Target", "Wants",
]  # fmt: skip
