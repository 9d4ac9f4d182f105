"""Finds what a fault left behind and repairs it by the same commands, with the same preconditions, as normal work."""
