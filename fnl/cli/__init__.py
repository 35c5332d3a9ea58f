"""The command line: `fnl …`."""
