"""Figures that the documents claim, measured again: `python -m tests.bench` prints one JSON line each.

Every figure is a ratio or a difference to something measured in the same run, interleaved; absolute times mean nothing
on a busy machine.
"""
