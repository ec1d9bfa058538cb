"""Faults without end on a running router under load: `make chaos`, and a short form among the tests."""
