"""What an engine is asked to do: conversations from traces or drawn, chosen, scaled and timed. Needs numpy alone."""

from __future__ import annotations

from fastswitch.engine.workloads.arrivals import (
    ArrivalPlan,
    ConversationTiming,
    TurnTiming,
    next_arrival_s,
    plan_arrivals,
)
from fastswitch.engine.workloads.as_recorded import plan_as_recorded
from fastswitch.engine.workloads.client_weights import read_client_weights
from fastswitch.engine.workloads.clients import deal_clients
from fastswitch.engine.workloads.conversation import Conversation, Turn, Workload
from fastswitch.engine.workloads.errors import WorkloadError
from fastswitch.engine.workloads.readers import encode_utf8, read_workload
from fastswitch.engine.workloads.select import select
from fastswitch.engine.workloads.synthetic import synthetic_workload

__all__ = [
    "ArrivalPlan",
    "Conversation",
    "ConversationTiming",
    "Turn",
    "TurnTiming",
    "Workload",
    "WorkloadError",
    "deal_clients",
    "encode_utf8",
    "next_arrival_s",
    "plan_arrivals",
    "plan_as_recorded",
    "read_client_weights",
    "read_workload",
    "select",
    "synthetic_workload",
]
