"""`python -m vitport`."""

from vitport.cli import main

main(prog_name="vitport")
