"""What a space of molecules and images has to beat: images known otherwise, molecules by ridge."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.linear_model import RidgeCV

from hcs_utils import assemble
from hcs_utils.crossmodal_assemble import Ready
from hcs_utils.crossmodal_settings import CrossmodalSettings
from hcs_utils.evaluation import leaks
from hcs_utils.learning import train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.embed import as_table, embed
from hcs_utils.learning.embed import features as features_of
from hcs_utils.learning.minibatches import Minibatches
from hcs_utils.settings import Settings

ALPHAS = tuple(10.0**k for k in range(-2, 6))  # penalties of the ridge, chosen by leaving one out
_CHUNK = 1024  # fields


def known_otherwise(settings: CrossmodalSettings, of: Ready, network=None) -> np.ndarray:
    """Features [f d] of all fields: position on the plate, intensities, or a network's."""
    if settings.method == "position":
        return leaks.sources(of.table)["well position"].astype(float)
    if settings.method == "intensity":
        rows = np.array_split(np.arange(len(of.table)), -(-len(of.table) // _CHUNK))
        read = of.screen.store.read
        return np.concatenate([leaks.intensity_statistics(read(part)) for part in rows])
    side, channels = of.crops.global_size, of.screen.channels
    ids = of.table["site_id"]
    return features_of(embed(network, of.images, ids, of.plate, of.normaliser, side, channels))


def mapped(
    of: Ready, features: Float[np.ndarray, "f d"], bits: Float[np.ndarray, "k b"]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fields as they are known, scaled by the training fields; molecules foretold from their bits.

    A ridge regression learns the mean of a training compound's fields from its fingerprint, and is
    asked for every compound. Its penalty is chosen by leaving one training compound out.
    """
    rows, known = of.trained, of.row[of.trained]
    mean, sd = features[rows].mean(0), features[rows].std(0)
    x = (features - mean) / np.where(sd > 0, sd, 1.0)
    total = np.zeros((len(of.compounds), x.shape[1]))
    np.add.at(total, known, x[rows])
    count = np.bincount(known, minlength=len(total))
    there = count > 0
    ridge = RidgeCV(ALPHAS).fit(bits[there], total[there] / count[there, None])
    foretold = ridge.predict(bits).reshape(len(bits), -1)
    molecules = as_table(foretold, of.compounds["compound"]).rename(columns={"site_id": "compound"})
    return molecules, as_table(x, of.table["site_id"])


def cdcl(settings: CrossmodalSettings, of: Ready, folder, progress: bool = True):
    """An encoder that CDCL trained on the training compounds' fields, its log, and its seconds.

    With ``image_weights`` those are taken, and nothing is trained. It sees as many images a step as
    there are compounds in a minibatch, for as many steps, from partners in other batches; a
    compound that was seen in one batch only is left out.
    """
    name, channels = settings.image_encoder, of.screen.channels
    if settings.image_weights:
        return encoder(name, channels, settings.image_weights), pd.DataFrame(), 0.0
    rows = of.trained
    batches = of.table.iloc[rows].groupby("molecule")["batch"].transform("nunique").to_numpy()
    rows = rows[batches > 1]
    label = pd.factorize(of.table["molecule"].iloc[rows], sort=True)[0]
    domain = pd.factorize(of.table["batch"].iloc[rows], sort=True)[0]
    asked = Settings(
        method="cdcl", encoder=name, minibatch=settings.compounds, seed=settings.seed,
        precision=settings.precision, compile=settings.compile,
    )  # fmt: skip
    made = assemble.method(asked, channels, int(label.max()) + 1, np.bincount(domain))
    views = assemble.views(asked, min(of.screen.store.shape[-2:]))
    stream = Minibatches(
        of.images, rows, label, domain, of.plate, of.normaliser, views,
        size=min(settings.compounds, len(rows)), partner=made.partner, seed=settings.seed,
    )  # fmt: skip
    log = train.fit(
        made, stream, assemble.train_config(asked, settings.steps), folder, progress=progress
    )
    return made.encoder, pd.DataFrame(log), train.seconds(folder)
