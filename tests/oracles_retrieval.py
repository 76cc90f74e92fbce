"""Slow loops of retrieval: every order of a tie is tried."""

from itertools import permutations

import numpy as np

from tests.oracles import cosine


def pool_scores(query, gallery, k):
    """Hits at k and reciprocal rank of each query of one pool, averaged over orders of ties."""
    out = []
    for i, q in enumerate(query):
        similarity = [round(cosine(q, g), 9) for g in gallery]
        tied = [j for j, s in enumerate(similarity) if s == similarity[i]]
        above = sum(s > similarity[i] for s in similarity)
        orders = [above + 1 + order.index(i) for order in permutations(tied)]
        hits = [np.mean([rank <= each for rank in orders]) for each in k]
        out.append([*hits, np.mean([1 / rank for rank in orders])])
    return np.array(out)
