"""``noctile train``."""

import sys
from pathlib import Path
from typing import Any

import click

from noctile.console.exit_codes import INTERRUPTED
from noctile.console.options import DATA, FILE, FOLDER, printing
from noctile.console.printer import Printer


@click.command("train")
@click.argument("data", nargs=-1, required=True, type=DATA)
@click.option("--out", required=True, type=FOLDER, help="Folder for the model.")
@click.option("--config", type=FILE, help="Settings as TOML; options override it.")
@click.option("--classes", help="bcss21, bcss5 (default), tumor, or a TOML file of your classes.")
@click.option("--encoder", help="Encoder of segmentation-models-pytorch (default: resnet34).")
@click.option("--encoder-weights", help="imagenet (default), none, or a file.")
@click.option("--mpp", type=float, help="Pixel size of the images (um), where nothing states it.")
@click.option("--exported", type=DATA, help="Exports of Noctile that the GeoJSON in DATA corrects.")
@click.option("--epochs", type=int, help="Most epochs (default: 50).")
@click.option("--device", help="auto (default: all GPUs), cpu, cuda or cuda:N.")
@click.option("--resume", is_flag=True, help="Continue the training that was stopped in --out.")
@printing()
def command(
    data: tuple[Path, ...],
    out: Path,
    config: Path | None,
    mpp: float | None,
    exported: Path | None,
    resume: bool,
    printer: Printer,
    **options: Any,
) -> None:
    """Train a model on DATA.

    DATA is a folder of BCSS, of its pre-tiled copies, of images/ + masks/, or of slides with
    GeoJSON.
    """
    from noctile.workflows.commands.train import load_train_settings, train

    settings = load_train_settings(config, data, mpp, exported, **options)
    try:
        result = train(settings, out, printer.progress, resume=resume)
    except KeyboardInterrupt:
        click.echo(
            "interrupted: the same command with --resume continues after the last complete epoch",
            err=True,
        )
        sys.exit(INTERRUPTED)
    printer.result(
        f"model in {result.folder}, weights of epoch {result.best_epoch}; curves in "
        f"{result.folder}/curves.png"
    )
