"""Classes of tissue, and recipes from which tissue is drawn."""

from dataclasses import dataclass, replace

import numpy as np

GLASS, TUMOR, STROMA, LYMPHOCYTES, FAT = 0, 1, 2, 3, 9


CLASS_NAMES = {TUMOR: "tumor", STROMA: "stroma", LYMPHOCYTES: "lymphocytic_infiltrate", FAT: "fat"}
"""Codes and names of the Breast Cancer Semantic Segmentation data set (its gtruth_codes.tsv); 0 is
glass."""


TRUTH_UM = 0.5
"""Pixel size at which the truth is drawn and stored (um)."""


@dataclass(frozen=True, slots=True)
class Stain:
    """Colours of the stains of a laboratory under a scanner.

    Attributes:
        haematoxylin: optical density of one unit of haematoxylin in R, G, B.
        eosin: optical density of one unit of eosin in R, G, B.
        glass: R, G, B of the empty slide, 0..255.
    """

    haematoxylin: tuple[float, float, float] = (0.563, 0.720, 0.406)
    eosin: tuple[float, float, float] = (0.216, 0.801, 0.558)
    glass: tuple[float, float, float] = (243.0, 243.0, 241.0)

    def jitter(self, rng: np.random.Generator, amount: float = 0.12) -> "Stain":
        """Vary the stain as from day to day: its strength and the ratios of its densities.

        Args:
            rng: random number generator.
            amount: standard deviation of the logarithm of the strength.
        """

        def vary(vector: tuple[float, float, float]) -> tuple[float, float, float]:
            strength = np.exp(rng.normal(0, amount))
            r, g, b = np.asarray(vector) * strength * np.exp(rng.normal(0, amount / 2, 3))
            return float(r), float(g), float(b)

        r, g, b = np.clip(np.asarray(self.glass) + rng.normal(0, 2.0, 3), 228, 250)
        return Stain(vary(self.haematoxylin), vary(self.eosin), (float(r), float(g), float(b)))


@dataclass(frozen=True, slots=True)
class Recipe:
    """Composition of a piece of tissue.

    Attributes:
        tumor: share of tumor in the tissue, 0..1; the rest is stroma.
        lymphocytes: share of lymphocytic infiltrate in the tissue, 0..1.
        fat: share of fat in the tissue, 0..1.
        nest_um: width of a tumor nest (um).
        nucleus_um: mean half axis of a tumor nucleus (um).
        cell_um: distance between tumor nuclei (um).
        stain: colours of the slide.
        dark: amount of haematoxylin in a tumor nucleus.
        open: paleness of tumor nuclei inside, 0..1.
        body: amounts of eosin and haematoxylin in the cytoplasm of tumor cells.
        lumen: share of the insides of nests that is the lumen of glands, 0..1. It is annotated as
            tumor.
        lumen_um: width of the lumens (um).
    """

    tumor: float = 0.35
    lymphocytes: float = 0.10
    fat: float = 0.12
    nest_um: float = 90.0
    nucleus_um: float = 5.3
    cell_um: float = 13.0
    stain: Stain = Stain()
    dark: float = 1.25
    open: float = 0.6
    body: tuple[float, float] = (0.62, 0.42)
    lumen: float = 0.0
    lumen_um: float = 25.0

    @classmethod
    def draw(cls, rng: np.random.Generator, varied: bool = False) -> "Recipe":
        """Draw a random tissue and stain, for training.

        Args:
            rng: random number generator.
            varied: True for tumor cells of any size, distance, density and chromatin, and glands;
                False for cells like those of the sample slides.
        """
        recipe = cls(
            tumor=rng.uniform(0.15, 0.5),
            lymphocytes=rng.uniform(0.04, 0.2),
            fat=rng.uniform(0.0, 0.25),
            nest_um=rng.uniform(40 if varied else 60, 140),
            nucleus_um=rng.uniform(*((4.2, 7.0) if varied else (4.6, 6.2))),
            cell_um=rng.uniform(2.1, 3.6) if varied else rng.uniform(11.5, 15),
            stain=Stain().jitter(rng, 0.2),
        )
        if not varied:
            return recipe
        return replace(
            recipe,
            cell_um=recipe.cell_um * recipe.nucleus_um,
            dark=rng.uniform(0.9, 1.8),
            open=rng.uniform(0.1, 0.9),
            body=(rng.uniform(0.25, 0.9), rng.uniform(0.1, 0.6)),
            lumen=max(0.0, rng.uniform(-0.1, 0.15)),
            lumen_um=rng.uniform(12, 40),
        )
