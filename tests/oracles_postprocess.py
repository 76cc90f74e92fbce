"""Slow loops of the corrections, written from their definitions."""

import math

import numpy as np


def l2(row):
    length = math.sqrt(sum(v * v for v in row))
    return [v / length if length > 0 else 0.0 for v in row]


def zscore_by_minibatch(features, batch, minibatch):
    """CDCL's released test-time Z-norm: L2, mean and unbiased sd of batch and minibatch, L2."""
    rows = [l2(row) for row in np.asarray(features, float).tolist()]
    out = [None] * len(rows)
    minibatch = minibatch or len(rows)
    for start in range(0, len(rows), minibatch):
        here = range(start, min(start + minibatch, len(rows)))
        for b in {batch[i] for i in here}:
            own = [i for i in here if batch[i] == b]
            columns = list(zip(*[rows[i] for i in own], strict=True))
            mean = [sum(c) / len(c) for c in columns]
            if len(own) == 1:
                out[own[0]] = [math.nan] * len(columns)
                continue
            sd = [
                math.sqrt(sum((v - m) ** 2 for v in c) / (len(c) - 1)) + 1e-8
                for c, m in zip(columns, mean, strict=True)
            ]
            for i in own:
                out[i] = l2([(v - m) / s for v, m, s in zip(rows[i], mean, sd, strict=True)])
    return np.array(out)


def covariance(rows):
    """Covariance (ddof 1), entry by entry."""
    rows = np.asarray(rows, float)
    mean = [sum(column) / len(rows) for column in rows.T]
    d = rows.shape[1]
    out = np.empty((d, d))
    for i in range(d):
        for j in range(d):
            out[i, j] = sum((r[i] - mean[i]) * (r[j] - mean[j]) for r in rows) / (len(rows) - 1)
    return out


def inverse_root(matrix, steps=60):
    """M^(-1/2) of a positive matrix by the iteration of Denman and Beavers, without eigenvalues."""
    scale = np.trace(matrix)
    y, z = matrix / scale, np.eye(len(matrix))
    for _ in range(steps):
        y, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
    return z / math.sqrt(scale)


def sphere(features, is_control, regularisation):
    """ZCA: each row, less the controls' mean, times (covariance + a share of its trace)^(-1/2)."""
    controls = [row for row, c in zip(features, is_control, strict=True) if c]
    cov = covariance(controls)
    ridge = regularisation * sum(cov[i, i] for i in range(len(cov))) / len(cov)
    root = inverse_root(cov + ridge * np.eye(len(cov)))
    mean = np.mean(controls, axis=0)
    return np.array([[sum((row - mean) * column) for column in root.T] for row in features])


def tvn(features, batch, is_control, regularisation, alignment):
    """Ando et al.: sphere by all controls; then centre each batch and move its covariance."""
    table = sphere(features, is_control, regularisation)
    out, eye = np.empty_like(table), np.eye(table.shape[1])
    means = {
        b: np.mean([r for r, c, k in zip(table, is_control, batch, strict=True) if c and k == b], 0)
        for b in set(batch)
    }
    centred = np.array([row - means[b] for row, b in zip(table, batch, strict=True)])
    everything = covariance(centred[np.asarray(is_control)]) + alignment * eye
    target = everything @ inverse_root(everything)
    for b in set(batch):
        own = [i for i in range(len(batch)) if batch[i] == b]
        cov = covariance([centred[i] for i in own if is_control[i]]) + alignment * eye
        move = inverse_root(cov) @ target
        for i in own:
            out[i] = centred[i] @ move
    return out


def combat(features, batch, design=None, tolerance=1e-4):
    """Johnson et al. 2007, sections 3.1 to 3.3, parametric: one feature and batch after another.

    `design` [n, p]: covariates to protect. The iteration ends as in the authors' own code: when
    the largest of (|change| / old value), not of its absolute value, is below `tolerance`.
    """
    features = np.asarray(features, float)
    n, d = features.shape
    names = sorted(set(batch))
    rows = {b: [i for i in range(n) if batch[i] == b] for b in names}
    x = np.zeros((n, 0)) if design is None else np.asarray(design, float)
    full = np.hstack([np.array([[float(b == k) for k in names] for b in batch]), x])
    standard, sigma, level = np.empty((n, d)), np.empty(d), np.empty((n, d))
    for g in range(d):
        beta = np.linalg.solve(full.T @ full, full.T @ features[:, g])
        grand = sum(len(rows[b]) / n * beta[k] for k, b in enumerate(names))
        residual = features[:, g] - full @ beta
        sigma[g] = math.sqrt(sum(residual**2) / n)
        level[:, g] = grand + x @ beta[len(names) :]
        standard[:, g] = (features[:, g] - level[:, g]) / sigma[g]
    out = np.empty((n, d))
    for b in names:
        z = standard[rows[b]]
        gamma_hat = [float(np.mean(z[:, g])) for g in range(d)]
        delta_hat = [float(np.var(z[:, g], ddof=1)) for g in range(d)]
        gamma_bar, tau2 = np.mean(gamma_hat), np.var(gamma_hat, ddof=1)
        m, s2 = np.mean(delta_hat), np.var(delta_hat, ddof=1)
        shape, rate = (m * m + 2 * s2) / s2, (m * m * m + m * s2) / s2
        gamma, delta = list(gamma_hat), list(delta_hat)
        change = math.inf
        while change > tolerance:
            change = -math.inf
            for g in range(d):
                size = len(rows[b])
                new = (size * tau2 * gamma_hat[g] + delta[g] * gamma_bar) / (size * tau2 + delta[g])
                spread = sum((z[i, g] - new) ** 2 for i in range(size))
                new_delta = (rate + spread / 2) / (size / 2 + shape - 1)
                old, old_delta = gamma[g], delta[g]
                if tolerance < 1e-6:  # to the end, with the change's absolute size
                    old, old_delta = abs(old) + 1e-300, abs(old_delta)
                change = max(
                    change, abs(new - gamma[g]) / old, abs(new_delta - delta[g]) / old_delta
                )
                gamma[g], delta[g] = new, new_delta
        for k, i in enumerate(rows[b]):
            for g in range(d):
                out[i, g] = sigma[g] * (z[k, g] - gamma[g]) / math.sqrt(delta[g]) + level[i, g]
    return out


def aggregate(keys, features, how, weights=None):
    """Median or weighted mean of each group, groups in sorted order."""
    features = np.asarray(features, float)
    weights = [1.0] * len(keys) if weights is None else list(weights)
    out = []
    for key in sorted(set(keys)):
        mine = [i for i in range(len(keys)) if keys[i] == key]
        row = []
        for j in range(features.shape[1]):
            values = sorted(features[i, j] for i in mine)
            if how == "mean":
                total = sum(weights[i] for i in mine)
                row.append(sum(features[i, j] * weights[i] for i in mine) / total)
            else:
                half = len(values) // 2
                odd = len(values) % 2
                row.append(values[half] if odd else (values[half - 1] + values[half]) / 2)
        out.append(row)
    return np.array(out)
