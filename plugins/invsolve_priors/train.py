"""Train a prior from a config file: `invsolve train CONFIG.toml --data FOLDER --out RUN`.

RUN gets a copy of the config, the checkpoint, the log, pictures and, at the end, the weight file with its card: `load_prior` takes
it by its path. Started with --resume RUN, a run goes on where it stopped.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch
from invsolve_weights.cards import FILE_LIMIT, is_shipped, load_network
from torch import Tensor, nn

from invsolve.data import labels_of
from invsolve.errors import InputError
from invsolve.plugins import load_prior
from invsolve.priors.base import Denoiser
from invsolve.training.classifier_config import ClassifierConfig
from invsolve.training.config import TrainConfig
from invsolve.training.consistency import ConsistencyTraining
from invsolve.training.consistency_config import ConsistencyConfig
from invsolve.training.data import Crops, validation_images
from invsolve.training.labels import ClassifierTraining
from invsolve.training.loop import Training, first_line
from invsolve.training.pairs import Bound, Pairs, PairTraining
from invsolve.training.pictures import write_pictures
from invsolve_priors.export import network_name, stored_bytes
from invsolve_priors.runs import Places


@contextmanager
def importable(*folders: Path) -> Iterator[None]:
    """Modules in these folders can be imported too; what is installed goes first."""
    before = list(sys.path)
    sys.path.extend(str(folder) for folder in folders)
    try:
        yield
    finally:
        sys.path[:] = before


def network_of(config: TrainConfig, folder: Path | None = None, *, started: bool = False) -> nn.Module:
    """The config's network, its first weights drawn from the config's seed or taken from `start`.

    Args:
        config: names the class, a start, the seed.
        folder: of the config file; with the working directory what a module and a start are looked for in.
        started: whether there is a checkpoint already, whose weights take the place of the first ones.

    Raises:
        InputError: no such class, arguments that it does not take, no network, or a start that does not fit.
    """
    module, _, name = config.network.path.partition(":")
    folders = [one for one in (folder, Path.cwd()) if one is not None]
    torch.manual_seed(config.run.seed)  # a training is a process of its own
    try:
        with importable(*folders):
            network = getattr(import_module(module), name)(**config.network.arguments)
    except Exception as error:
        raise InputError(
            f"network.class {config.network.path} cannot be made with {config.network.arguments} ({type(error).__name__}: "
            f"{first_line(error)}); class is module:Class of a map (x, sigma) -> x0_hat, arguments are its constructor's"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"network.class {config.network.path} makes a {type(network).__name__}; it must make a torch.nn.Module")
    if config.start and not started:
        try:
            network.load_state_dict(fitted(start_state(config.start, folders), network.state_dict(), config.start))
        except InputError as error:
            if not isinstance(config, ConsistencyConfig) or config.start != config.objective.teacher:
                raise
            said = str(error).replace("start = ", "objective.teacher = ", 1)  # who wrote a teacher and no start knows of no start
            raise InputError(f"{said}; the first weights are the teacher's, unless `start` names others") from error
    return network


def start_state(start: str, folders: list[Path]) -> dict[str, Tensor]:
    """Weights of a shipped prior, or of a weight file with its card or a run folder (its average) below one of the folders."""
    if not start.endswith(".safetensors") and is_shipped(start):
        return load_network(start)[0].state_dict()
    for path in (folder / start for folder in folders):
        if start.endswith(".safetensors") and is_shipped(path):
            return load_network(path)[0].state_dict()
        if (path / "checkpoint.pt").is_file():
            try:
                return torch.load(path / "checkpoint.pt", weights_only=True, map_location="cpu")["ema"]
            except Exception as error:
                raise InputError(f"start = '{start}': {path / 'checkpoint.pt'} cannot be read ({first_line(error)})") from error
    places = " or ".join(dict.fromkeys(map(str, folders)))
    raise InputError(f"start = '{start}': no prior of that name, and no weight file with its card and no run folder below {places}")


def fitted(state: dict[str, Tensor], wanted: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """Weights of a colour network for a grey one too: the first layer's image channels are summed, the last one's averaged.

    A grey picture shown to the colour network in all three channels, and its three answers averaged, is then what the grey network
    begins with. A network with a condition begins as one without: the further channels, in front, have weights 0.
    """
    first = next(iter(wanted))
    if state.keys() != wanted.keys():
        odd = sorted(state.keys() ^ wanted.keys())
        raise InputError(f"start = '{start}': another network; differing keys: {', '.join(odd[:3])}")
    made = {}
    for key, value in state.items():
        shape = wanted[key].shape
        if value.ndim == 4 and value.shape[0] == shape[0] and value.shape[1:2] < shape[1:2] and key == first:
            value = torch.cat([value.new_zeros(shape[0], shape[1] - value.shape[1], *shape[2:]), value], 1)
        if value.shape != shape and value.ndim > 1 and value.shape[1] == shape[1] + 2:
            value = torch.cat([value[:, :3].sum(1, keepdim=True), value[:, 3:]], 1)
        if value.shape != shape and value.shape[0] == shape[0] + 2:
            value = torch.cat([value[:3].mean(0, keepdim=True), value[3:]])
        if value.shape != shape:
            raise InputError(f"start = '{start}': {key} is {tuple(value.shape)}, the network needs {tuple(shape)}")
        made[key] = value
    return made


def prepared(config: TrainConfig, places: Places, out: Path) -> Training:
    """The run, its images read and the validation images denoised once: whatever is wrong shows now.

    Raises:
        InputError: see `Crops`, `network_of`, `check_network` and `Training`.
    """
    if config.data.autoencoder:
        from invsolve_latent.codes import prepared as prepared_codes

        return prepared_codes(config, places, out)
    network = network_of(config, places.config, started=(out / "checkpoint.pt").exists())
    root, channels, data = places.data, config.network.channels, config.data
    sources = [(source.of(root), source.weight, tuple(source.scales)) for source in data.source]
    crops = Crops(sources, data.side or None, channels=channels, flips=data.flips, pad=data.pad)
    validation = None
    if config.validation is not None:
        chosen = config.validation
        validation = validation_images(chosen.of(root), chosen.count, chosen.side or None, channels, data.pad)
    sigmas = config.objective.sigmas
    side = data.side or crops.pools[0][0].shape[0]
    shape = (channels, side, side)
    pairs = config.pairs(shape, places.config)
    if isinstance(config, ClassifierConfig):
        return classifier_training(network, config, crops, out, validation, root)
    check_network(network, config, shape, pairs)

    def pictures(average: nn.Module) -> None:
        device = next(average.parameters()).device
        shown = average.cpu()
        if pairs is not None and validation is not None:
            shown = Bound(shown, pairs, validation)
        if pairs is None or validation is not None:
            write_pictures(shown, out, validation, shape, (sigmas.low, sigmas.high), few_step=isinstance(config, ConsistencyConfig))
        average.to(device)

    if isinstance(config, ConsistencyConfig):
        teacher = teacher_of(config, places, shape) if config.objective.teacher else None
        return ConsistencyTraining(network, crops, config.recipe(), out, validation, pictures, teacher=teacher)
    if pairs is None:
        return Training(network, crops, config.recipe(), out, validation, pictures)
    return PairTraining(network, crops, config.recipe(), out, validation, pictures, pairs=pairs)


FAR = 1.5  # times another standard deviation of the data


def teacher_of(config: ConsistencyConfig, places: Places, shape: tuple[int, int, int]) -> Denoiser:
    """The denoiser whose paths a few-step map follows, tried on a grey crop; a file lies below the config's or the working folder.

    Raises:
        InputError: no such prior or file, one that is no denoiser, or that does not take the crops.
    """
    name = config.objective.teacher
    files = [folder / name for folder in (places.config, Path.cwd())] if name.endswith(".safetensors") else []
    found = load_prior(next((one for one in files if one.is_file()), name))
    if not isinstance(found, Denoiser):
        raise InputError(f"objective.teacher = '{name}': a {type(found).__name__}, which has no ODE; give a denoiser such as natural")
    unit = config.objective.s0
    if not 1 / FAR <= found.s0 / unit <= FAR:
        raise InputError(
            f"objective.s0 = {unit:g}, and the teacher '{name}' was made for data of standard deviation {found.s0:g}: the loss is in that "
            f"unit; write s0 = {found.s0:g}"
        )
    try:
        found(torch.full((1, *shape), 0.5), config.objective.sigmas.high)
    except Exception as error:
        raise InputError(f"objective.teacher = '{name}': it does not take crops {shape} ({first_line(error)})") from error
    return found


def classifier_training(
    network: nn.Module, config: ClassifierConfig, crops: Crops, out: Path, validation: Tensor | None, root: Path
) -> Training:
    """The run of a noised classifier.

    Raises:
        InputError: a network that gives no logits, sources without labels.
    """
    side = crops.size or crops.pools[0][0].shape[0]
    trial = torch.zeros(2, config.network.channels, side, side)
    try:
        found = tuple(network(trial, torch.ones(2)).shape)
    except Exception as error:
        raise InputError(f"{config.network.path} fails on (x, sigma) with x {tuple(trial.shape)}: {first_line(error)}") from error
    if found != (2, config.classes):
        raise InputError(f"{config.network.path} must give logits (2, {config.classes}) for 2 images; it gives {found}")
    source = None if config.validation is None else config.validation.of(root)
    shown = labels_of(source) if isinstance(source, Path) and source.suffix.lower() == ".npz" else None
    return ClassifierTraining(network, crops, config.recipe(), out, validation, classes=config.classes, shown=shown)


def check_network(network: nn.Module, config: TrainConfig, shape: tuple[int, int, int], pairs: Pairs | None = None) -> None:
    """Whether a network can be trained, and its weights be stored.

    Raises:
        InputError: no map (x, sigma) -> x0_hat, or (x, sigma, condition) -> x0_hat where there are pairs, nothing to train, values that are
            not finite, or too many weights for a weight file.
    """
    name, sigmas = config.network.path, config.objective.sigmas
    size = stored_bytes(network.state_dict())
    if network_name(config) and size > FILE_LIMIT:
        raise InputError(f"{name} with {config.network.arguments}: a weight file of {size} bytes, more than the {FILE_LIMIT} that are read")
    trial = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()  # so that the trial leaves running statistics alone
        seeing = network if pairs is None else Bound(network, pairs, trial)
        with torch.no_grad():
            found = seeing(trial, torch.full((1,), math.sqrt(sigmas.low * sigmas.high))).shape
        for module, mode in modes:  # train() would undo what the class has frozen
            module.training = mode
    except Exception as error:
        taken = "(x, sigma)" if pairs is None else f"(x, sigma, condition), condition {tuple(pairs.fixed(trial).shape)},"
        raise InputError(f"{name} fails on {taken} with x {tuple(trial.shape)}: {first_line(error)}") from error
    if found != trial.shape:
        raise InputError(f"{name} must give x0_hat of x's shape {tuple(trial.shape)}; it gives {tuple(found)}")
    if not any(value.requires_grad for value in network.parameters()):
        raise InputError(f"{name} has no parameters to train")
    bad = [key for key, value in network.state_dict().items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise InputError(f"{name}: {bad[0]} is not finite, which no weight file may hold; a constant is a buffer with persistent=False")
