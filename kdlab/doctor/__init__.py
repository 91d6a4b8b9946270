"""What a config would do, found out on a handful of rows: the probes of `kdlab doctor`, one a file."""
