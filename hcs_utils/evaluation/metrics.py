"""Every number that judges an embedding, by one name each.

All take NumPy arrays, one row a site, and never hold an array of sites x sites.
"""

from hcs_utils.evaluation.classification import (
    KNN_CARON,
    KNN_CDCL,
    KNN_QC,
    knn_accuracy,
    knn_predict,
    knn_scores,
    linear_predict,
    scores,
)
from hcs_utils.evaluation.grit import grit, grit_by_treatment
from hcs_utils.evaluation.intervals import (
    bootstrap_interval,
    p_value,
    paired_interval,
    permutation_null,
)
from hcs_utils.evaluation.mixing import kbet, kbet_accepted, lisi, silhouette
from hcs_utils.evaluation.precision import average_precision
from hcs_utils.evaluation.replicates import (
    nsc_moa_accuracy,
    nsc_moa_chance,
    nsc_moa_right,
    replicate_map,
)
from hcs_utils.evaluation.retrieval import generalisation, ranks, retrieval

__all__ = [
    "KNN_CARON",
    "KNN_CDCL",
    "KNN_QC",
    "average_precision",
    "bootstrap_interval",
    "generalisation",
    "grit",
    "grit_by_treatment",
    "kbet",
    "kbet_accepted",
    "knn_accuracy",
    "knn_predict",
    "knn_scores",
    "linear_predict",
    "lisi",
    "nsc_moa_accuracy",
    "nsc_moa_chance",
    "nsc_moa_right",
    "p_value",
    "paired_interval",
    "permutation_null",
    "ranks",
    "replicate_map",
    "retrieval",
    "scores",
    "silhouette",
]
