"""`python -m fnl.cli …` is `fnl …`."""

from fnl.cli.main import main

main()
