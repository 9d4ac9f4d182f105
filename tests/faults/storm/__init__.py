"""The storm: real processes, seeded faults, a recorded history, and a checker (`docs/storm.md`)."""
