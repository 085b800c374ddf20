"""The facts themselves: of a machine with a GPU."""

import pytest
import torch

from fastswitch.engine.machine_facts import machine_facts


@pytest.mark.gpu
def test_with_a_gpu_it_names_it_and_pins():
    facts = machine_facts()
    assert facts["device"]["name"] == torch.cuda.get_device_name()
    assert facts["pinned"] == {"possible": True, "reason": None}
    assert "a GPU" not in [each["what"] for each in facts["missing"]]
