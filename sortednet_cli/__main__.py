"""`python -m sortednet_cli` is `sortednet`."""

from sortednet_cli.cli.main import main

main()
