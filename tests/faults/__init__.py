"""Faults of the whole machine: kills at every step, full and read-only disks, many processes, frameworks that break."""
