"""A short form of `make chaos`: fewer faults, always the same ones."""

import asyncio

import pytest

from chaos.run import KINDS, Run
from chaos.setting import MODELS
from chaos.world import Violated
from demo.__main__ import make

SEED = 7
FAULTS = 24
"""Each kind, and some of them again."""


def test_no_fault_costs_an_answer_that_another_replica_could_give_and_nothing_is_left() -> None:
    make(MODELS)
    run = Run(list(KINDS), FAULTS, SEED, print)
    try:
        asyncio.run(run())
    except Violated as violated:
        pytest.fail(str(violated))
    assert run.result.oracle.requests > 10 * FAULTS
