"""Charging what was enacted."""

from fastswitch.sched import TokenAccountant
from tests.sched.fakes import running


def test_counts_by_client():
    accountant = TokenAccountant()
    mine, yours, mine_too = running(0, 1, client_id="a"), running(1, 1, client_id="b"), running(2, 1, client_id="a")
    accountant.charge(mine, 30, 1)
    accountant.charge(yours, 0, 1)
    accountant.charge(mine_too, 5, 0)
    accountant.charge(mine, 0, 1)
    assert accountant.prefill_tokens == {"a": 35, "b": 0}
    assert accountant.decode_tokens == {"a": 2, "b": 1}
    assert accountant.prefill_tokens["nobody"] == 0
