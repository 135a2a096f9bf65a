"""Decisions and sentences: pure, without a wait, a clock, I/O, environment or randomness."""
