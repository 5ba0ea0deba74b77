"""Model of a call, with the resources of this machine that it runs on."""

from dataclasses import dataclass

from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.folder import (
    CONFIG,
    find_model,
    read_card,
    read_config,
    verify_weights,
    weights_path,
)
from noctile.workflows.resources import Resources, resolve_resources
from noctile.workflows.settings import RunSettings


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """Model that was found and checked, and the resources for it.

    Attributes:
        folder: absolute path of the model's folder.
        card: card of the model.
        resources: device, workers, threads and memory.
        pixels_key: hash of everything that a mask depends on beside its slide.
    """

    folder: str
    card: ModelCard
    resources: Resources
    pixels_key: str


def open_model(settings: RunSettings) -> OpenedModel:
    """Find the model of some settings, check its weights, and choose the resources for it.

    Raises:
        UsageError: if there is no such model or device, or if a block does not fit into memory.
    """
    folder = find_model(settings.model)
    card = read_card(folder)
    verify_weights(folder, card)
    config, has_network = read_config(folder), weights_path(folder).name != CONFIG
    resources = resolve_resources(settings, settings.tiling(card), has_network=has_network)
    key = settings.pixels_key(card, config, resources.device, resources.backend)
    return OpenedModel(str(folder.resolve()), card, resources, key)
