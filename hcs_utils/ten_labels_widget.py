"""Ten labels, clicked: crops as pictures with two buttons each, in a notebook.

Every click is an answer on the disk before anything else happens; the widget holds nothing that
`ten_labels.begin` would not find again.
"""

import base64
import io
from html import escape
from pathlib import Path

import imagecodecs
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np

from hcs_utils import ten_labels
from hcs_utils.data.labels import LABELS
from hcs_utils.data.store import Store
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_ten_labels

_SHOWN = 20  # fields of the list to drop
_SIDE = 120  # px of a picture on the screen
_LOOK = "image-rendering: pixelated; display: block; outline: 1px solid #767676"  # of a picture
_STYLE = {"normal": "info", "abnormal": "warning"}  # of the button that was chosen; it says so too


class Card:
    """One crop: its picture and the two buttons; `chosen` is the answer, "" while there is none."""

    def __init__(self, site_id: str, picture: np.ndarray, where: tuple, number: int, on_choice):
        self.site_id, self.chosen, self._on_choice = site_id, "", on_choice
        alt, caption = f"Crop {number}, plate {where[0]}, well {where[1]}", " ".join(where)
        image = widgets.HTML(f"<img src='{_png(_enlarged(picture))}' alt='{escape(alt, True)}' "
                             f"width='{_SIDE}' height='{_SIDE}' title='{escape(site_id, True)}' "
                             f"style='{_LOOK}'>")  # fmt: skip
        self.buttons = {}
        for label in LABELS:
            button = widgets.Button(
                description=label.capitalize(), tooltip=f"Crop {number} is {label}",
                layout={"width": f"{_SIDE}px", "margin": "2px 0"},
            )  # fmt: skip
            button.on_click(lambda _, label=label: self._on_choice(self, label))
            self.buttons[label] = button
        head = widgets.HTML(f"<small><b>{number}</b> {escape(caption)}</small>")
        self.box = widgets.VBox([head, image, *self.buttons.values()], layout={"margin": "2px"})

    def choose(self, label: str) -> None:
        self.chosen = label
        for name, button in self.buttons.items():
            button.button_style = _STYLE[name] if name == label else ""
            button.description = name.capitalize() + (" ✓" if name == label else "")


class Panel:
    """The whole tool; `box` is what a notebook shows. See `panel`."""

    def __init__(self, session, images, root, n: int, at: float | int, least: int):
        self.session, self.images, self.root = session, images, Path(root)
        self.n, self.least = n, least
        self.cards: list[Card] = []
        self.before: list[list[str]] = []  # sets of crops shown earlier, to go back to
        self.skipped: set[str] = set()
        self.told = widgets.HTML()
        self.row = widgets.HBox(layout={"flex_flow": "row wrap"})
        self.back = _button("Back", "Show the crops before these", self._back, "arrow-left")
        self.skip = _button("Next crops", "Show others; no answer is needed", self._skip)
        self.at = widgets.FloatSlider(
            value=at, min=0.05, max=1.0, step=0.05, description="Drop from score",
            continuous_update=False, style={"description_width": "initial"},
            layout={"width": "340px"},
        )  # fmt: skip
        self.at.observe(lambda _: self._judge(), "value")
        self.keep = _button("Write to the screen", "Keep qc_flag and qc_score", self._write, "save")
        self.map, self.list, self.said = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.results = widgets.VBox(
            [self.at, self.map, self.list, self.keep], layout={"align_items": "flex-start"}
        )
        self.box = widgets.VBox(
            [self.told, self.row, widgets.HBox([self.back, self.skip]), self.results, self.said]
        )
        self._next()

    def _next(self) -> None:
        """Rank the crops by what is known now, and show the next few."""
        torn = self.session.labels.contradictions()["site_id"].unique().tolist()
        wanted = ten_labels.suggest(self.session, self.n + len(self.skipped))
        self._show((torn or [s for s in wanted if s not in self.skipped])[: self.n])
        self._judge()

    def _show(self, site_ids: list[str]) -> None:
        pictures = ten_labels.pictures(self.session, self.images, site_ids, self.least)
        crops = self.session.crops.set_index("site_id")
        places = [(str(crops.at[s, "plate"]), str(crops.at[s, "well"])) for s in site_ids]
        self.cards = [
            Card(site, picture, where, k, self._answer)
            for k, (site, picture, where) in enumerate(
                zip(site_ids, pictures, places, strict=True), 1
            )
        ]
        known = self.session.labels.table().set_index("site_id")["label"]
        for card in self.cards:
            if card.site_id in known:
                card.choose(known[card.site_id])
        self.row.children = [card.box for card in self.cards]
        self.back.disabled = not self.before
        self._tell()

    def _answer(self, card: Card, label: str) -> None:
        if card.chosen == label:
            return
        torn = card.site_id in set(self.session.labels.contradictions()["site_id"])
        try:
            if card.chosen or torn:  # a change of mind, not a contradiction
                ten_labels.settle(self.session, card.site_id, label)
            else:
                ten_labels.answer(self.session, card.site_id, label)
        except InputError as error:
            return self._say(str(error), "alert")
        card.choose(label)
        self._tell()
        if all(other.chosen for other in self.cards):
            self.before.append([other.site_id for other in self.cards])
            self._next()

    def _back(self, _) -> None:
        if self.before:
            self._show(self.before.pop())
            self._judge()

    def _skip(self, _) -> None:
        self.skipped |= {card.site_id for card in self.cards if not card.chosen}
        self.before.append([card.site_id for card in self.cards])
        self._next()

    def _judge(self) -> None:
        """Plates and list from the answers so far; hidden while there are too few."""
        self._say("")
        try:
            table = ten_labels.fields(self.session)
        except InputError as error:
            self.results.layout.display = "none"
            return self._say(str(error))
        self.results.layout.display = "flex"
        plates = ten_labels.plate_map(self.session, self.at.value)
        figure = figure_ten_labels.plates(plates)
        worst = plates.groupby("plate")["abnormal"].mean().sort_values(ascending=False)
        alt = "Heat map of the share of abnormal fields in each well, plate by plate; worst: "
        alt += ", ".join(f"{name} {share:.0%}" for name, share in worst.head(3).items())
        self.map.value = f"<img src='{_drawn(figure)}' alt='{escape(alt, True)}' width='720' "
        self.map.value += "style='display: block'>"
        drop = ten_labels.to_drop(self.session, self.at.value)
        self.list.value = _listed(drop, len(table))

    def _write(self, _) -> None:
        try:
            path = ten_labels.write(self.session, self.root, self.at.value)
        except InputError as error:
            return self._say(str(error), "alert")
        drop = len(ten_labels.to_drop(self.session, self.at.value))
        self._say(
            f"Written to {path.name} beside the screen: {drop} of "
            f"{len(ten_labels.fields(self.session))} fields are flagged. Every chapter leaves them "
            "out from now on."
        )

    def _tell(self) -> None:
        now = ten_labels.so_far(self.session)
        torn = now["contradictory"]
        line = f"<b>{now['normal'] + now['abnormal']} answers</b>: {now['normal']} normal, "
        line += f"{now['abnormal']} abnormal, each on the disk. "
        if torn:
            line += f"<b>{torn} called normal and abnormal</b>: the next click settles each. "
        told = "".join(f"<br>{escape(text)}" for text in self.session.labels.told)
        ask = "Is what you see normal, or is something wrong with the image?"
        if not self.cards:
            ask = "Every crop has an answer or was skipped."
        self.told.value = f"<div role='status'>{line}{ask}{told}</div>"

    def _say(self, text: str, role: str = "status") -> None:
        self.said.value = f"<div role='{role}'>{escape(text)}</div>" if text else ""


def panel(
    session: ten_labels.Session,
    images: Store | np.ndarray,
    root: str | Path,
    n: int = 6,
    at: float | int = 0.5,
    least: int = 32,
) -> Panel:
    """The tool for a session; its `box` is the widget to show.

    `images`: of the crops, see `ten_labels.pictures`, which `least` is for. `root`: the screen's
    folder, which the flags are written to. `n` crops at a time; `at`: the score to drop from, which
    the slider changes. Raises `InputError` as `pictures` and `suggest` do.
    """
    return Panel(session, images, root, n, at, least)


def _button(text: str, tip: str, action, icon: str = "") -> widgets.Button:
    button = widgets.Button(description=text, tooltip=tip, icon=icon, layout={"width": "auto"})
    button.on_click(action)
    return button


def _enlarged(picture: np.ndarray) -> np.ndarray:
    times = max(1, 2 * _SIDE // max(picture.shape[:2]))
    return np.ascontiguousarray(picture.repeat(times, 0).repeat(times, 1))


def _png(picture: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(imagecodecs.png_encode(picture)).decode()


def _drawn(figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144)
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _listed(drop, fields: int) -> str:
    rows = "".join(
        f"<tr><td>{escape(site)}</td><td>{escape(plate)}</td><td>{escape(well)}</td>"
        f"<td style='text-align: right'>{score:.2f}</td></tr>"
        for site, plate, well, score in drop[["site_id", "plate", "well", "qc_score"]]
        .head(_SHOWN)
        .itertuples(index=False)
    )
    more = f"<p>… and {len(drop) - _SHOWN} more.</p>" if len(drop) > _SHOWN else ""
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("field", "plate", "well", "score"))
    return (
        f"<p><b>To drop: {len(drop)} of {fields} fields</b>, worst first</p>"
        f"<div tabindex='0' role='region' aria-label='Fields to drop' "
        f"style='max-height: 220px; overflow: auto'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{more}</div>"
    )
