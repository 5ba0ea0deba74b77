"""``noctile models``."""

from typing import Any

import click

from noctile.console.options import JSON, complete_model
from noctile.console.printer import Printer


def _with_json(function: Any) -> Any:
    return JSON[0](function)


@click.group("models", invoke_without_command=True)
@_with_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the installed models, as ``noctile models list`` does.

    ``noctile models show NAME`` prints a model's card.
    """
    if not ctx.invoked_subcommand:
        _print_models(as_json=as_json)


@command.command("list")
@_with_json
def list_models(as_json: bool) -> None:
    """List the installed models."""
    _print_models(as_json=as_json)


def _print_models(*, as_json: bool) -> None:
    from rich.table import Table

    from noctile.console.documents import models_document
    from noctile.pipeline.models.folder import installed_models, read_card

    cards = {folder: read_card(folder) for folder in installed_models().values()}
    table = Table("model", "classes", "um/px", "licence", "description")
    for folder, card in cards.items():
        row = (folder.name, str(len(card.classes)), f"{card.mpp:g}", card.licence)
        table.add_row(*row, card.description)
    with Printer(as_json=as_json) as printer:
        printer.result(table)
        printer.document(models_document(cards))


@command.command()
@click.argument("name", shell_complete=complete_model)
def show(name: str) -> None:
    """Print the card of model NAME (installed, or a folder) as JSON."""
    from noctile.pipeline.models.folder import find_model, read_card

    click.echo(read_card(find_model(name)).model_dump_json(indent=2))
