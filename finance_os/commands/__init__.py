"""The subcommands of `finance-os`, one typer application a module."""
