"""The command line: it finds the systems and mounts their commands."""
