"""Stand-ins for CPUs that are not on the desk: older x86 at native speed, 64-bit Arm emulated."""
