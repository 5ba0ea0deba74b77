"""``noctile models``."""

import click

from noctile.console.display import open_console


@click.group("models", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the installed models.

    ``noctile models show NAME`` prints a model's card.
    """
    if ctx.invoked_subcommand:
        return
    from rich.table import Table

    from noctile.pipeline.models.folder import installed_models, read_card

    table = Table("model", "classes", "um/px", "licence", "description")
    for name, folder in installed_models().items():
        card = read_card(folder)
        table.add_row(name, str(len(card.classes)), f"{card.mpp:g}", card.licence, card.description)
    open_console().print(table)


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the card of model NAME (installed, or a folder) as JSON."""
    from noctile.pipeline.models.folder import find_model, read_card

    click.echo(read_card(find_model(name)).model_dump_json(indent=2))
