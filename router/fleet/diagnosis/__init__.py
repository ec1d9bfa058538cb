"""Why an engine failed: from the end of its log, its exit and what the system says (`system.py`), to a cause, its
evidence and a remedy (`diagnose.py`)."""

from router.fleet.diagnosis.values import Death, Diagnosis, Facts

__all__ = ["Death", "Diagnosis", "Facts"]
