"""The leak audit in slow loops, from its definition."""

from collections import Counter

import numpy as np


def lookup(bank, labels, query):
    """The most frequent label of the same word in the bank, the first in order of a tie."""

    def most(found):
        count = Counter(found)
        return min(count, key=lambda label: (-count[label], label))

    answers = []
    for word in query:
        same = [label for w, label in zip(bank, labels, strict=True) if w == word]
        answers.append(most(same or list(labels)))
    return answers


def vote(bank, labels, query, k, temperature):
    """Weighted k-NN by cosine of features scaled by mean and deviation of the bank."""
    columns = list(zip(*bank, strict=True))
    mean = [sum(c) / len(c) for c in columns]
    sd = [
        (sum((v - m) ** 2 for v in c) / len(c)) ** 0.5
        for c, m in zip(columns, mean, strict=True)
    ]  # fmt: skip

    def scaled(row):
        return [(v - m) / s for v, m, s in zip(row, mean, sd, strict=True)]

    def cosine(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5

    rows, answers = [scaled(row) for row in bank], []
    for row in query:
        similar = [cosine(scaled(row), other) for other in rows]
        nearest = sorted(range(len(rows)), key=lambda i: -similar[i])[:k]
        weight = Counter()
        for i in nearest:
            weight[labels[i]] += float(np.exp(similar[i] / temperature))
        answers.append(min(weight, key=lambda label: (-weight[label], label)))
    return answers


def position(well):
    """Row and column from 0 of a well such as B07 or AF48."""
    letters = "".join(c for c in well if c.isalpha())
    row = 0
    for c in letters:
        row = 26 * row + "ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(c) + 1
    return row - 1, int(well[len(letters) :]) - 1
