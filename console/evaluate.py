"""``noctile evaluate``."""

from pathlib import Path
from typing import Any, Literal

import click

from noctile.console.options import DATA, FILE, FOLDER, Words, complete_model, printing
from noctile.console.printer import Printer

SIDES = ("train", "val", "test", "all")


@click.command("evaluate")
@click.argument("model", shell_complete=complete_model)
@click.argument("data", nargs=-1, required=True, type=DATA)
@click.option("--split", "side", type=click.Choice(SIDES), default="test", show_default=True)
@click.option("--out", required=True, type=FOLDER, help="Folder for the report.")
@click.option("--config", type=FILE, help="Settings of the training, for its [[data]].")
@click.option("--mpp", type=float, help="Pixel size of the images (um), where nothing states it.")
@click.option("--exported", type=DATA, help="Exports of Noctile that the GeoJSON in DATA corrects.")
@click.option("--classes", help="Class scheme of DATA, where the model folder holds none.")
@click.option(
    "--device",
    type=Words("auto", "cpu", "cuda", metavar="NAME"),
    default="auto",
    help="auto (default), cpu, cuda or cuda:N.",
)
@printing()
def command(
    model: str,
    data: tuple[Path, ...],
    side: Literal["train", "val", "test", "all"],
    out: Path,
    config: Path | None,
    mpp: float | None,
    exported: Path | None,
    printer: Printer,
    **options: Any,
) -> None:
    """Measure MODEL on DATA.

    Writes metrics with intervals, confusion, calibration, a gallery and report.html.
    """
    from noctile.workflows.commands.evaluate import evaluate
    from noctile.workflows.commands.train import load_train_settings

    sources = load_train_settings(config, data, mpp, exported).data
    classes, device = options["classes"], options["device"]
    evaluate(model, sources, out, side, classes, device, printer.progress)
    printer.result(f"report in {out / 'report.html'}")
