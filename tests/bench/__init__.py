"""Measurements. `python -m tests.bench [ROW ...] [--short]`; nothing here decides a test."""
