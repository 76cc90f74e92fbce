"""Slow loops written from the definitions, to check the fast code against."""

import math

import numpy as np


def cosine(a, b) -> float:
    return float(np.dot(a, b) / (math.sqrt(np.dot(a, a)) * math.sqrt(np.dot(b, b))))


def knn_predict(bank, labels, query, k, temperature):
    """CDCL's k-NN: the class with the largest sum of exp(cos / temperature) over k neighbours."""
    predicted = []
    for q in np.asarray(query, dtype=float):
        similar = [(cosine(q, row), label) for row, label in zip(bank, labels, strict=True)]
        nearest = sorted(similar, key=lambda pair: -pair[0])[:k]
        score = {}
        for similarity, label in nearest:
            score[label] = score.get(label, 0.0) + math.exp(similarity / temperature)
        predicted.append(max(sorted(score), key=score.get))
    return np.array(predicted)


def kbet_neighbours(features, k):
    """Cosine neighbours of each row, itself excluded by its index."""
    features = np.asarray(features, dtype=float)
    neighbours = []
    for i in range(len(features)):
        others = [j for j in range(len(features)) if j != i]
        others.sort(key=lambda j: -cosine(features[i], features[j]))
        neighbours.append(others[:k])
    return neighbours


def released_neighbours(features, k):
    """The released code: the k largest dot products, self among them, and the first dropped."""
    similarity = np.asarray(features, dtype=float) @ np.asarray(features, dtype=float).T
    return [list(np.argsort(-row)[:k])[1:] for row in similarity]


def kbet_statistics(neighbours, batch, k):
    """Pearson's chi-square of each neighbourhood against the overall shares of the batches."""
    batch = np.asarray(batch)
    statistics = []
    for near in neighbours:
        statistic = 0.0
        for b in sorted(set(batch.tolist())):
            expected = k * sum(batch == b) / len(batch)
            statistic += (sum(batch[j] == b for j in near) - expected) ** 2 / expected
        statistics.append(statistic)
    return np.array(statistics)


def zscore(features, batch, reference):
    """Each value minus the mean of its batch's reference rows, over their standard deviation."""
    out = np.empty_like(features)
    for i in range(len(features)):
        for j in range(features.shape[1]):
            values = [
                features[r, j]
                for r in range(len(features))
                if batch[r] == batch[i] and reference[r]
            ]
            mean = sum(values) / len(values)
            sd = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
            out[i, j] = (features[i, j] - mean) / sd
    return out
