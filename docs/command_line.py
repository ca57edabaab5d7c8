"""The command as an object, for the page that is made of its ``--help``."""

from typer.main import get_command

from dcpt.cli import app

command = get_command(app)
