"""Slow loops written from the definitions, to check the fast code against."""

import math

import numpy as np


def cosine(a, b) -> float:
    return float(np.dot(a, b) / (math.sqrt(np.dot(a, a)) * math.sqrt(np.dot(b, b))))


def nearest(query, bank, k, similarity="cosine"):
    """(row of the bank, similarity) of the k most similar, for each query."""
    measure = cosine if similarity == "cosine" else np.dot
    found = []
    for q in np.asarray(query, dtype=float):
        similar = [(j, float(measure(q, row))) for j, row in enumerate(bank)]
        found.append(sorted(similar, key=lambda pair: -pair[1])[:k])
    return found


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


def knn_shares(bank, labels, query, k, temperature):
    """For each query, the share of the vote of each label that has one."""
    shares = []
    for near in nearest(query, bank, k):
        votes = {}
        for j, similarity in near:
            votes[labels[j]] = votes.get(labels[j], 0.0) + math.exp(similarity / temperature)
        shares.append({label: vote / sum(votes.values()) for label, vote in votes.items()})
    return shares


def scores(truth, predicted):
    """Accuracy, mean recall and F1 by counting; (recall, f1, share) of each class in truth."""
    every = sorted(set(truth) | set(predicted))
    pairs = list(zip(truth, predicted, strict=True))
    recall, f1, share = {}, {}, {}
    for c in every:
        right = sum(t == p == c for t, p in pairs)
        true, said = sum(t == c for t in truth), sum(p == c for p in predicted)
        recall[c], f1[c], share[c] = right / true if true else None, 2 * right / (true + said), true
    present = [c for c in every if share[c]]
    return {
        "accuracy": sum(t == p for t, p in pairs) / len(pairs),
        "balanced_accuracy": sum(recall[c] for c in present) / len(present),
        "f1_macro": sum(f1.values()) / len(every),
        "f1_weighted": sum(f1[c] * share[c] for c in every) / len(pairs),
    }


def auc_weighted(truth, vote, classes):
    """Chance that a row of a class has more of its vote than a row of another; by class size."""
    total = 0.0
    for j, c in enumerate(classes):
        own = [v[j] for v, t in zip(vote, truth, strict=True) if t == c]
        rest = [v[j] for v, t in zip(vote, truth, strict=True) if t != c]
        wins = sum((a > b) + 0.5 * (a == b) for a in own for b in rest)
        total += len(own) * wins / max(1, len(own) * len(rest))
    return total / len(truth)


def lisi(features, label, perplexity):
    """1 over the chance that two draws from a site's weighted neighbours share a label."""
    features, found = np.asarray(features, dtype=float), []
    for i in range(len(features)):
        away = sorted(
            (math.dist(features[i], features[j]), label[j]) for j in range(len(features)) if j != i
        )[: int(3 * perplexity)]

        def weights(beta, away=away):
            raw = [math.exp(-beta * (d - away[0][0])) for d, _ in away]
            return [r / sum(raw) for r in raw]

        low, high = 1e-9, 1e6
        for _ in range(200):
            beta = math.sqrt(low * high)
            entropy = -sum(p * math.log(p) for p in weights(beta) if p > 0)
            low, high = (beta, high) if entropy > math.log(perplexity) else (low, beta)
        share = {}
        for p, (_, name) in zip(weights(beta), away, strict=True):
            share[name] = share.get(name, 0.0) + p
        found.append(1 / sum(s * s for s in share.values()))
    return np.array(found)


def silhouette(features, label):
    """(b - a) / max(a, b) of mean cosine distances to one's own label and to the nearest other."""
    found = []
    for i in range(len(features)):
        away = {}
        for j in range(len(features)):
            if j != i:
                away.setdefault(label[j], []).append(1 - cosine(features[i], features[j]))
        if label[i] not in away:
            found.append(0.0)
            continue
        mean = {name: sum(d) / len(d) for name, d in away.items()}
        a = mean.pop(label[i])
        b = min(mean.values())
        found.append((b - a) / max(a, b))
    return np.array(found)


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


def linear_predict(bank, labels, query, shrinkage=0.01):
    """The label with the largest linear discriminant, a query at a time, features scaled."""
    bank, query = np.asarray(bank, dtype=float), np.asarray(query, dtype=float)
    mean, sd = bank.mean(axis=0), bank.std(axis=0)
    bank, query = (bank - mean) / sd, (query - mean) / sd
    within, centre, share = np.zeros((bank.shape[1],) * 2), {}, {}
    for name in sorted(set(labels.tolist())):
        rows = bank[labels == name]
        centre[name], share[name] = rows.mean(axis=0), len(rows) / len(bank)
        covariance = sum(np.outer(x - centre[name], x - centre[name]) for x in rows) / len(rows)
        spread = np.trace(covariance) / len(covariance)
        shrunk = (1 - shrinkage) * covariance + shrinkage * spread * np.eye(len(covariance))
        within += share[name] * shrunk
    inverse, predicted = np.linalg.inv(within), []
    for x in query:
        score = {
            name: x @ inverse @ m - m @ inverse @ m / 2 + math.log(share[name])
            for name, m in centre.items()
        }
        predicted.append(max(score, key=score.get))
    return np.array(predicted)
