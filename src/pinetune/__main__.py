"""`python -m pinetune` is `pinetune`."""

from pinetune.cli.main import main

main()
