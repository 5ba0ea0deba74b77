"""Paths of everything in a folder of results."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """Paths in a folder of results, the ``--out`` of a run.

    Attributes:
        path: path of the folder.
    """

    path: Path

    @property
    def slides(self) -> Path:
        """Folder of the slides that are done."""
        return self.path / "slides"

    @property
    def staging(self) -> Path:
        """Folder in which slides are made."""
        return self.path / ".staging"

    @property
    def planned(self) -> Path:
        """Folder with the slides that ``noctile plan`` has planned, for a run to continue."""
        return self.path / ".plan"

    @property
    def ledger(self) -> Path:
        """Events of all runs."""
        return self.path / "ledger.jsonl"

    @property
    def lease(self) -> Path:
        """Process that writes to this folder."""
        return self.path / "lease.json"

    @property
    def plan_table(self) -> Path:
        """One row for each slide of the last preflight, with the predictions that it takes."""
        return self.path / "plan.csv"

    @property
    def cohort_csv(self) -> Path:
        """One row for each slide of the folder, as CSV."""
        return self.path / "slides.csv"

    @property
    def cohort_parquet(self) -> Path:
        """One row for each slide of the folder, as Parquet."""
        return self.path / "slides.parquet"

    @property
    def columns_json(self) -> Path:
        """Type, unit and description of each column of the tables of slides."""
        return self.path / "columns.json"

    @property
    def regions_csv(self) -> Path:
        """One row for each region of interest of the folder's slides, as CSV."""
        return self.path / "regions.csv"

    @property
    def regions_parquet(self) -> Path:
        """One row for each region of interest of the folder's slides, as Parquet."""
        return self.path / "regions.parquet"

    @property
    def index(self) -> Path:
        """Report of the folder, a page for a browser."""
        return self.path / "index.html"

    @property
    def index_files(self) -> Path:
        """Folder with the small pictures of that page."""
        return self.path / "index_files"

    @property
    def runs(self) -> Path:
        """Folder with the record of each run: settings, versions, model, machine and counts."""
        return self.path / "runs"

    def run_record(self, run: str) -> Path:
        """Return the record of the run with this id."""
        return self.runs / f"{run}.json"

    @property
    def run_log(self) -> Path:
        """Lines that all runs printed, with times."""
        return self.path / "run.log"

    @property
    def exports(self) -> Path:
        """Folder with a folder of exported files for each format."""
        return self.path / "exports"

    @property
    def review_csv(self) -> Path:
        """Status and note of each slide and reviewer."""
        return self.path / "review.csv"

    @property
    def review(self) -> Path:
        """Folder with the regions that reviewers leave out."""
        return self.path / "review"

    def review_regions(self, slide_id: str) -> Path:
        """Return the file with the regions of a slide that reviewers leave out."""
        return self.review / f"{slide_id}.geojson"

    @property
    def review_history(self) -> Path:
        """Every save of a review, one JSON object a line."""
        return self.review / "history.jsonl"

    def review_areas(self, slide_id: str) -> Path:
        """Return the file that caches the areas of a slide without these regions."""
        return self.review / ".areas" / f"{slide_id}.json"

    @property
    def audit(self) -> Path:
        """Folder of the audit: points that readers answer."""
        return self.path / "audit"

    @property
    def audit_design(self) -> Path:
        """Slides that the audit speaks for, and how its points were drawn."""
        return self.audit / "design.json"

    @property
    def audit_points(self) -> Path:
        """One row for each point of the audit."""
        return self.audit / "points.csv"

    @property
    def audit_answers(self) -> Path:
        """One row for each point of the audit and reader."""
        return self.audit / "answers.csv"

    @property
    def audit_history(self) -> Path:
        """Every answer to a point of the audit, one JSON object a line."""
        return self.audit / "history.jsonl"

    @property
    def measured(self) -> Path:
        """Folder that caches the spatial measures of results without them."""
        return self.path / ".measures"

    def measures(self, slide_id: str) -> Path:
        """Return the file that caches the spatial measures of a result without them."""
        return self.measured / f"{slide_id}.json"

    def slide(self, slide_id: str) -> "SlideFolder":
        """Return the folder of a slide's result once it is done."""
        return SlideFolder(self.slides / slide_id)

    def staged(self, slide_id: str) -> "SlideFolder":
        """Return the folder in which a slide's next result is made."""
        return SlideFolder(self.staging / slide_id)

    def planned_slide(self, slide_id: str) -> "SlideFolder":
        """Return the folder in which ``noctile plan`` keeps the plan of a slide."""
        return SlideFolder(self.planned / slide_id)

    def under_way(self, slide_id: str) -> "SlideFolder":
        """Return the folder of a slide that is prepared and not done.

        It is in staging, or it is the result's own folder if all blocks are done there and only a
        measured file is missing.
        """
        staged = self.staged(slide_id)
        return staged if staged.plan.exists() else self.slide(slide_id)

    def failure_report(self, slide_id: str) -> Path:
        """Return the report of a slide that failed."""
        return self.path / "failures" / f"{slide_id}.txt"


@dataclass(frozen=True, slots=True)
class SlideFolder:
    """Paths of one slide: ``slides/<slide_id>/``, or ``.staging/<slide_id>/`` while it is made.

    Attributes:
        path: path of the folder.
    """

    path: Path

    @property
    def plan(self) -> Path:
        """Slide, tissue and tiles to predict; written when the slide has been prepared."""
        return self.path / "plan.json"

    @property
    def tissue(self) -> Path:
        """Tissue mask, 0 or 255, at the pixel size of the tissue search."""
        return self.path / "tissue.png"

    @property
    def roi(self) -> Path:
        """Regions of interest to which the slide is confined, as GeoJSON; only with such."""
        return self.path / "roi.geojson"

    @property
    def mask(self) -> Path:
        """Label image of the classes, with the slide's thumbnail."""
        return self.path / "mask.ome.zarr"

    @property
    def heat(self) -> Path:
        """Images of tumor probability and confidence."""
        return self.path / "heat.ome.zarr"

    @property
    def block_stats_file(self) -> Path:
        """Statistics of all blocks, written once all blocks are done."""
        return self.path / "blocks.json"

    @property
    def blocks(self) -> Path:
        """Folder with the statistics of single blocks, while blocks are being done."""
        return self.path / "blocks"

    def block_stats(self, block: tuple[int, int]) -> Path:
        """Return the file with the statistics of the block at (row, col)."""
        return self.blocks / f"{block[0]}.{block[1]}.json"

    @property
    def tiles(self) -> Path:
        """Table with one row for each tile."""
        return self.path / "tiles.parquet"

    @property
    def preview(self) -> Path:
        """Picture of the thumbnail beside the colored mask."""
        return self.path / "preview.jpg"

    @property
    def checksums(self) -> Path:
        """The sha256 of every other file; written just before the summary."""
        return self.path / "checksums.json"

    @property
    def summary(self) -> Path:
        """Figures of the slide; written last: a slide with a summary is done."""
        return self.path / "summary.json"

    @property
    def failure(self) -> Path:
        """Report of a failure as earlier versions wrote it; see `ResultsFolder.failure_report`."""
        return self.path / "failure.txt"

    @property
    def replaced(self) -> Path:
        """Folder with the result that this one replaces, until the promotion is complete."""
        return self.path / ".replaced"

    @property
    def required(self) -> tuple[Path, ...]:
        """Everything that a finished slide has, in every version of Noctile."""
        return (
            self.summary,
            self.plan,
            self.tissue,
            self.block_stats_file,
            self.mask,
            self.heat,
            self.tiles,
            self.preview,
        )
