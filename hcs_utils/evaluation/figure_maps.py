"""Maps of embeddings, and fields to look at."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch, Rectangle
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, MARKERS, PALETTE, colours, drawn, names

CHANNEL_COLOURS = {  # of a composite, by how the channel's name begins
    "dna": (0.25, 0.45, 1.0),
    "hoechst": (0.25, 0.45, 1.0),
    "dapi": (0.25, 0.45, 1.0),
    "er": (0.1, 0.85, 0.3),
    "rna": (0.9, 0.8, 0.1),
    "agp": (1.0, 0.45, 0.1),
    "actin": (1.0, 0.3, 0.2),
    "mito": (0.95, 0.2, 0.75),
    "tubulin": (0.1, 0.85, 0.3),
}
_OTHER_COLOURS = ((1.0, 1.0, 1.0), (0.0, 0.8, 0.8), (0.9, 0.5, 0.5), (0.5, 0.9, 0.5))
_IN_COLOUR = len(PALETTE)


def umap(features: ArrayLike, seed: int = 0, neighbours: int = 15) -> np.ndarray:
    """Two coordinates a site by UMAP with the library's defaults, as the CDCL paper; `[n, 2]`.

    The same seed gives the same map. Distances across it mean little; read groups, not gaps.
    """
    from umap import UMAP

    features = np.asarray(features, dtype=np.float32)
    if features.ndim != 2 or len(features) < 4 or not np.isfinite(features).all():
        raise InputError(
            f"UMAP needs at least four rows of finite features [n, d], got shape {features.shape}; "
            "leave out rows with NaN."
        )
    model = UMAP(
        n_neighbors=min(neighbours, len(features) - 1),
        init="spectral" if len(features) > 50 else "random",
        random_state=seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():  # islands of batches are what we came to see
        warnings.filterwarnings("ignore", "Graph is not fully connected", UserWarning)
        return np.asarray(model.fit_transform(features), dtype=np.float32)


@drawn
def umap_panels(
    points: Mapping[str, ArrayLike],
    batch: ArrayLike,
    treatment: ArrayLike | None = None,
    what: str = "batch",
) -> Figure:
    """One map for each named embedding `[n, 2]`, coloured by batch, or by `what` else is given.

    Below it, if treatments are given, the spot where most of them meet, enlarged and coloured by
    treatment: the six commonest there, others grey. After figure 2 of the CDCL paper.
    """
    batch = np.asarray(batch)
    rows, wide = (1 if treatment is None else 2), min(10.0, 4.2 * len(points))
    figure, axes = plt.subplots(
        rows,
        len(points),
        figsize=(wide, rows * wide / len(points) + 0.5),
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(hspace=0.06)
    for column, (name, xy) in enumerate(points.items()):
        xy = np.asarray(xy)
        if xy.shape != (len(batch), 2):
            raise InputError(f"{name}: need [{len(batch)}, 2] points, got shape {xy.shape}.")
        _scatter(axes[0, column], xy, batch, names(batch))
        axes[0, column].set_title(name)
        _bare(axes[0, column], _window(xy, share=1.06))
        if treatment is not None:
            _enlarge(axes[:, column], xy, np.asarray(treatment))
    _batch_legend(figure, names(batch), what)
    return figure


@drawn
def site_grid(
    images: ArrayLike,
    channels: Sequence[str],
    titles: ArrayLike | None = None,
    mode: str = "composite",
    pixel_size_um: float | None = None,
    columns: int = 4,
) -> Figure:
    """Fields as the eye wants them; uint8 `[n c y x]`, brightness as it is in the pixels.

    "composite": one picture a field, channels in fixed colours; "channels": one row a field and
    one grey picture a channel. With the pixel size in um, the first carries a scale bar.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] != len(channels):
        raise InputError(
            f"Need uint8 images [n {len(channels)} y x] for the channels {', '.join(channels)}, "
            f"got {images.dtype} of shape {images.shape}."
        )
    if mode not in ("composite", "channels"):
        raise InputError(f'mode must be "composite" or "channels", got {mode!r}.')
    titles = [""] * len(images) if titles is None else np.asarray(titles).astype(str).tolist()
    if mode == "composite":
        pictures, columns = (
            [composite(image, channels) for image in images],
            min(columns, len(images)),
        )
    else:
        pictures, columns = images.reshape(-1, *images.shape[2:]), len(channels)
    rows = -(-len(pictures) // columns)
    tall = images.shape[2] / images.shape[3]
    wide = min(8.5, 2.4 * columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(
            wide,
            rows * (wide / columns * tall + (0.35 if any(titles) and mode == "composite" else 0.1)),
        ),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, picture in zip(axes.flat, pictures, strict=False):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    if mode == "composite":
        _titles(axes.flat, titles)
    else:
        _titles(axes[0], channels)
        for ax, title in zip(axes[:, 0], titles, strict=True):
            ax.text(-0.05, 0.5, title, transform=ax.transAxes, rotation=90, ha="right", va="center")
    if pixel_size_um:
        _scale_bar(axes[0, 0], images.shape[2:], pixel_size_um)
    return figure


def composite(image: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """One colour picture `[y x 3]` uint8 of a field `[c y x]`: its channels' colours added up.

    Many channels are dimmed alike, so that where all are bright little is cut off at white.
    """
    spare = iter(_OTHER_COLOURS * len(channels))
    mix = []
    for name in channels:
        known = [c for begin, c in CHANNEL_COLOURS.items() if name.lower().startswith(begin)]
        mix.append(known[0] if known else next(spare))
    mix = np.array(mix) * min(1, 1.8 / np.sum(mix, axis=0).max())
    return np.clip(np.einsum("cyx,cp->yxp", image, mix), 0, 255).astype(np.uint8)


def _scatter(ax: Axes, xy: np.ndarray, group: np.ndarray, order: Sequence, size: float = 0) -> None:
    """Points by group in shuffled order, so that no group hides another."""
    palette = dict(zip(order, colours(len(order)), strict=True))
    shuffled = np.random.default_rng(0).permutation(len(xy))
    ax.scatter(
        *xy[shuffled].T,
        c=[palette[g] for g in group[shuffled].tolist()],
        s=size or np.clip(9000 / len(xy), 2, 24),
        alpha=0.75,
        linewidths=0,
        rasterized=True,
    )


def _window(xy: np.ndarray, share: float) -> np.ndarray:
    """Limits [[x0, x1], [y0, y1]] of a square around points, a share of their larger extent."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    half = share * max((high - low).max(), 1e-6) / 2
    return np.stack([(low + high) / 2 - half, (low + high) / 2 + half], axis=1)


def _meeting(xy: np.ndarray, treatment: np.ndarray, share: float) -> np.ndarray:
    """Limits around the points of one spot, a share of the map, where most treatments meet."""
    code = np.unique(treatment, return_inverse=True)[1]
    reach = share * max(np.ptp(xy, axis=0).max(), 1e-6) / 2
    best, chosen = (0, 0), np.ones(len(xy), dtype=bool)
    for at in xy[np.random.default_rng(0).permutation(len(xy))[:300]]:
        inside = np.abs(xy - at).max(axis=1) <= reach
        score = (int((np.bincount(code[inside]) >= 3).sum()), int(inside.sum()))
        if score > best:
            best, chosen = score, inside
    return _window(xy[chosen], share=1.12)


def _enlarge(axes: np.ndarray, xy: np.ndarray, treatment: np.ndarray) -> None:
    above, below = axes
    window = _meeting(xy, treatment, share=0.28)
    inside = ((xy >= window[:, 0]) & (xy <= window[:, 1])).all(axis=1)
    xy, treatment = xy[inside], treatment[inside]
    common = [name for name, _ in Counter(sorted(treatment.tolist())).most_common(_IN_COLOUR)]
    rest = ~np.isin(treatment, common)
    below.scatter(*xy[rest].T, c=INK, s=14, alpha=0.35, linewidths=0)
    for name, colour, marker in zip(common, PALETTE.values(), MARKERS, strict=False):
        chosen = treatment == name
        below.scatter(*xy[chosen].T, color=colour, marker=marker, s=26, linewidths=0, alpha=0.9)
    shown = f"{len(common)} commonest of {len(set(treatment.tolist()))}" if rest.any() else "all"
    below.set_xlabel(f"by treatment ({shown})", fontsize=11)
    _bare(below, window)
    (x0, x1), (y0, y1) = window
    above.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=INK, lw=1.2))
    for x, corner in ((x0, 0), (x1, 1)):
        line = ConnectionPatch(
            (x, y0),
            (corner, 1),
            "data",
            "axes fraction",
            axesA=above,
            axesB=below,
            color=INK,
            lw=0.8,
        )
        above.figure.add_artist(line)


def _bare(ax: Axes, window: np.ndarray) -> None:
    ax.set(xticks=[], yticks=[], xlim=window[0], ylim=window[1], aspect="equal")
    ax.spines[:].set_visible(True)


def _batch_legend(figure: Figure, order: Sequence, what: str) -> None:
    if len(order) > 12:
        plural = f"{what}es" if what.endswith("ch") else f"{what}s"
        figure.supxlabel(f"Each of {len(order)} {plural} has its colour.", fontsize=11, color=INK)
        return
    marks = [
        Line2D([], [], marker="o", ls="", color=colour, label=str(name))
        for name, colour in zip(order, colours(len(order)), strict=True)
    ]
    figure.legend(
        handles=marks,
        loc="outside lower center",
        ncols=min(6, len(order)),
        title=what,
        handletextpad=0.1,
        columnspacing=1.2,
    )


def _titles(axes: Iterable[Axes], titles: Sequence[str]) -> None:
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title, fontsize=11, fontweight="normal", loc="center", pad=4)


def _scale_bar(ax: Axes, shape: tuple[int, int], pixel_size_um: float) -> None:
    """A white bar of 1, 2 or 5 x 10^k um, about a quarter of the width."""
    height, width = shape
    target = width * pixel_size_um / 4
    power = 10.0 ** np.floor(np.log10(target))
    length = max(step * power for step in (1, 2, 5) if step * power <= target)
    x1, y = 0.94 * width, 0.93 * height
    edge = [effects.withStroke(linewidth=2.5, foreground="black")]
    ax.plot(
        [x1 - length / pixel_size_um, x1], [y, y], color="white", lw=3, solid_capstyle="butt",
        path_effects=[effects.withStroke(linewidth=4.5, foreground="black")],
    )  # fmt: skip
    ax.text(x1, y - 0.03 * height, f"{length:g} µm", color="white", ha="right", va="bottom",
            fontsize=10, path_effects=edge)  # fmt: skip
