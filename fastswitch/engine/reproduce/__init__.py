"""The paper's evaluation, simulated: which cases, their figures, and a report beside the paper's."""
