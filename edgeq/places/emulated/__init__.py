"""Stand-ins on this machine for devices that are not available."""
