"""Geometry: are the keys an orthogonal frame of the hypotheses, and do residual states carry the belief?

Keys are as attention uses them: after norm, projection and rotation. n directions in d dimensions cannot be orthogonal
where n > d, so the score is 1 at the Welch bound and 0 where all directions are parallel:

    r² = mean_{i≠j} cos²(k_i, k_j),   r_min = √max(0, (n − d) / (d (n − 1))),   score = 1 − (r − r_min) / (1 − r_min).

Random directions are nearly orthogonal too: mean |cos| = √(2/πd). So every number is reported beside chance and beside
a random initialisation of the same shape. Where a direction is a mean over the tokens of one label (`Tunnel.frame`), it
is also reported beside shuffled labels; stored pairs have a token each, and no label to shuffle.

In shapes, M is the sets of vectors, n the vectors of a set, K the scored positions of all sequences together (or, in
`log_domains_BPK`, the domains).
"""

import math
from dataclasses import replace

import numpy as np

from windtunnel.instruments.base import Json, Seen, Subject, visible
from windtunnel.instruments.subspaces import subspaces
from windtunnel.tunnels.answers import Frame


def refusal(subject: Subject) -> str | None:
    return None  # every model has residual states; where there are no keys, `keys` is None


def measure(subject: Subject) -> Json:
    """`keys`: one row for each layer and head; `manifold`: how well residual states encode the belief; `domains`: how
    well the residual states of different domains are separated (`mixture`).
    """
    seen, untrained = subject.seen, subject.untrained
    record: Json = {"keys": None, "manifold": manifold(seen, untrained), "domains": None}
    if seen.frame is not None and seen.depths:
        record["keys"] = keys(seen, untrained, seen.frame)
        if seen.frame.codes_BTd is not None:  # the orthogonality of the data's own codes
            record["keys"]["codes"] = orthogonality(np.asarray(seen.frame.codes_BTd))
    if seen.log_domains_BPK is not None:
        record["domains"] = domains(seen, untrained)
    return record


def lines(record: Json) -> list[str]:
    sentences = []
    if (keys := record["keys"]) is None:
        sentences.append("no keys: the model has no attention, or tokens stand for no hypotheses")
    else:
        best, null = keys["heads"][keys["best"]], keys["heads"][keys["best"]]["untrained"]
        sentences.append(
            f"keys of {keys['n']:.0f} {keys['what']} in {keys['d']} dimensions, most orthogonal in head "
            f"{best['layer']}.{best['head']}: score {best['score']:.3f} (untrained {null['score']:.3f}), mean |cos| "
            f"{best['mean_abs_cos']:.3f} (chance {keys['chance_mean_abs_cos']:.3f}), coverage {best['coverage']:.2f} "
            f"({null['coverage']:.2f}), dimensions used {best['utilisation']:.2f} ({null['utilisation']:.2f})"
        )
        if "codes" in keys:
            sentences.append(
                f"the data's own codes have mean |cos| {keys['codes']['mean_abs_cos']:.3f}: no less is asked for"
            )
    flat = record["manifold"]
    sentences.append(
        f"residual states at equal position tell the belief with R² {_number(flat['belief_r2'])} (untrained "
        f"{_number(flat['untrained']['belief_r2'])}, shuffled {_number(flat['shuffled']['belief_r2'])}); PC1 holds "
        f"{flat['pc1']:.0%} (untrained {flat['untrained']['pc1']:.0%})"
    )
    if (apart := record["domains"]) is not None:
        sentences.append(
            f"domains lie apart by {_number(apart['separation'])} (untrained {_number(apart['untrained'])}, "
            f"shuffled {_number(apart['shuffled'])})"
        )
        shared = apart["subspaces"]
        sentences.append(
            f"their first {shared['directions']} principal directions overlap by {shared['overlap']:.3f} (chance "
            f"{shared['chance']:.3f}, untrained {shared['untrained']['overlap']:.3f}, shuffled "
            f"{shared['shuffled']['overlap']:.3f}), at angles from {shared['angles'][0]:.0f}° to "
            f"{shared['angles'][-1]:.0f}°"
        )
    return sentences


def headline(record: Json) -> dict[str, float | None]:
    """The numbers for tables and time series."""
    keys, flat = record["keys"], record["manifold"]
    numbers = {"belief_r2": flat["belief_r2"]}
    if keys is not None:
        best = keys["heads"][keys["best"]]
        numbers |= {"orthogonality": best["score"], "coverage": best["coverage"], "utilisation": best["utilisation"]}
        numbers["sharpness"] = max(head["sharpness"] for head in keys["heads"])
    if record["domains"] is not None:
        numbers["separation"] = record["domains"]["separation"]
        numbers["overlap"] = record["domains"]["subspaces"]["overlap"]
    return numbers


def keys(seen: Seen, untrained: Seen, frame: Frame) -> Json:
    """The orthogonality of every layer and head, with nulls; `best`: the index of the most orthogonal head."""
    rows, label_BT = [], np.asarray(frame.label_BT)
    shuffled = replace(frame, label_BT=np.random.default_rng(0).permutation(label_BT.ravel()).reshape(label_BT.shape))
    for depth in seen.depths:
        trained, null = (np.asarray(of.taps["keys"][depth], np.float64) for of in (seen, untrained))
        sharp = {name: sharpness(np.asarray(of.taps["attention"][depth], np.float64))
                 for name, of in (("trained", seen), ("untrained", untrained))}  # fmt: skip
        for head in range(trained.shape[1]):
            row = orthogonality(directions(trained[:, head], frame), spectrum=True)
            row["untrained"] = orthogonality(directions(null[:, head], frame), spectrum=True)
            row["untrained"]["sharpness"] = sharp["untrained"][head]
            row["shuffled"] = None if frame.own else orthogonality(directions(trained[:, head], shuffled))
            rows.append({"layer": depth, "head": head, "sharpness": sharp["trained"][head], **row})
    d = seen.taps["keys"][seen.depths[0]].shape[-1]
    n = float(np.mean([row["n"] for row in rows]))
    return {
        "what": frame.what,
        "n": n,
        "d": d,
        "chance_mean_abs_cos": math.sqrt(2 / (math.pi * d)),
        "chance_score": _score(1 / math.sqrt(d), n, d),
        "best": int(np.argmax([row["score"] for row in rows])),
        "heads": rows,
    }


def directions(keys_BTd: np.ndarray, frame: Frame) -> np.ndarray:
    """[M, n, d]: the keys of each sequence's own hypotheses (M sequences), or the mean key of every hypothesis that
    occurs (M = 1).
    """
    if frame.own:
        return keys_BTd
    label = np.asarray(frame.label_BT).ravel()
    flat = keys_BTd.reshape(-1, keys_BTd.shape[-1])
    return np.stack([flat[label == h].mean(axis=0) for h in range(frame.count) if (label == h).any()])[None]


def orthogonality(vectors_Mnd: np.ndarray, spectrum: bool = False) -> Json:
    """How orthogonal n vectors in d dimensions are, averaged over M sets. With unit vectors u_i and singular values σ:

    `score` as above; `mean_abs_cos`; `coverage`: the share of hypotheses with a direction of their own, that is with
    cos² < ½ to every other; `utilisation` = (Σσ²)² / (d Σσ⁴), the participation ratio over d; and
    `utilisation_entropy` = exp H(σ²/Σσ²) / d.
    """
    sets = [_measures(vectors_nd) for vectors_nd in np.asarray(vectors_Mnd, np.float64)]
    means = {name: float(np.mean([measures[name] for measures in sets])) for name in sets[0] if name != "singular"}
    return (
        {**means, "singular": np.mean([measures["singular"] for measures in sets], axis=0).tolist()}
        if spectrum
        else means
    )


def _measures(vectors_nd: np.ndarray) -> Json:
    n, d = vectors_nd.shape
    length_n1 = np.linalg.norm(vectors_nd, axis=1, keepdims=True)
    unit_nd = np.divide(vectors_nd, length_n1, out=np.zeros_like(vectors_nd), where=length_n1 > 0)
    if n < 2:
        return {**dict.fromkeys(("score", "rms_cos", "mean_abs_cos", "coverage"), math.nan), "n": n,
                "utilisation": 1 / d, "utilisation_entropy": 1 / d, "singular": np.ones(1)}  # fmt: skip
    cos_nn = unit_nd @ unit_nd.T
    off = np.abs(cos_nn[~np.eye(n, dtype=bool)].reshape(n, n - 1))
    rms = float(np.sqrt(np.mean(off**2)))
    singular = np.linalg.svd(unit_nd, compute_uv=False)
    share = singular**2 / max((singular**2).sum(), 1e-300)
    entropy = -np.sum(share * np.log(np.maximum(share, 1e-300)))
    return {
        "n": n,
        "score": _score(rms, n, d),
        "rms_cos": rms,
        "mean_abs_cos": float(off.mean()),
        "coverage": float(np.mean(off.max(axis=1) ** 2 < 0.5)),
        "utilisation": float(1 / np.sum(share**2) / d),
        "utilisation_entropy": float(np.exp(entropy) / d),
        "singular": singular,
    }


def _score(rms: float, n: float, d: int) -> float:
    least = welch(n, d)
    return 1 - (rms - least) / (1 - least) if least < 1 else math.nan


def welch(n: float, d: int) -> float:
    """r_min: the least RMS cosine between n directions in d dimensions. Welch 1974."""
    return math.sqrt(max(0.0, (n - d) / (d * (n - 1)))) if n > 1 else 0.0


def sharpness(attention_BNTT: np.ndarray) -> list[float]:
    """Per head 1 − H(α_i) / ln(visible keys), averaged over the queries that see at least two keys: 0 for uniform
    attention, 1 for attention to one token.
    """
    tokens = attention_BNTT.shape[-1]
    weight = np.where(visible(tokens), attention_BNTT, 0.0)
    entropy_BNT = -np.sum(weight * np.log(np.maximum(weight, 1e-300)), axis=-1)
    return (1 - entropy_BNT[..., 1:] / np.log(np.arange(2, tokens + 1))).mean(axis=(0, 2)).tolist()


def manifold(seen: Seen, untrained: Seen) -> Json:
    """How well the exact predictive can be decoded linearly from the last residual state: R² on held-out sequences,
    after the mean of every position is subtracted from both, so that knowing the position alone gives 0. `pc1_raw` and
    `pc1`: the variance share of the first principal component before and after. PC1 alone is no evidence: see its null.
    """
    p_BPV, weight_BP = np.exp(np.asarray(seen.log_exact_BPV, np.float64)), np.asarray(seen.batch.weight_BP) > 0
    state_BPD, null_BPD = (last_residual(of) for of in (seen, untrained))

    def decoded(state_BPD: np.ndarray, belief_BPV: np.ndarray) -> dict[str, float]:
        entropy_BP1 = -np.sum(belief_BPV * np.log(np.maximum(belief_BPV, 1e-300)), axis=-1, keepdims=True)
        return {
            "belief_r2": held_out_r2(state_BPD, belief_BPV, weight_BP),
            "entropy_r2": held_out_r2(state_BPD, entropy_BP1, weight_BP),
        }

    def components(state_BPD: np.ndarray) -> dict[str, float]:
        raw, even = state_BPD - state_BPD.mean(axis=(0, 1)), state_BPD - state_BPD.mean(axis=0)
        return {"pc1_raw": first_component(raw[weight_BP]), "pc1": first_component(even[weight_BP])}

    return {
        **decoded(state_BPD, p_BPV),
        **components(state_BPD),
        "untrained": {**decoded(null_BPD, p_BPV), **components(null_BPD)},
        "shuffled": decoded(state_BPD, np.roll(p_BPV, 1, axis=0)),
    }


def last_residual(seen: Seen) -> np.ndarray:
    """[B, P, D]: the residual stream after the last layer, at the scored tokens."""
    residual = seen.taps["residual"]
    return np.asarray(residual[max(residual)], np.float64)[:, seen.tokens]


def first_component(centred_KD: np.ndarray) -> float:
    power = np.linalg.svd(centred_KD, compute_uv=False) ** 2
    return float(power[0] / max(power.sum(), 1e-300))


def held_out_r2(x_BPD: np.ndarray, y_BPV: np.ndarray, weight_BP: np.ndarray) -> float:
    """R² of a ridge regression of y on x, without position means; fitted on half of the sequences, scored on the
    rest.
    """
    half = len(x_BPD) // 2
    x_KD, y_KV, held_KD, held_KV = (
        (of[part] - of[:half].mean(axis=0))[weight_BP[part]]
        for part in (slice(half), slice(half, None))
        for of in (x_BPD, y_BPV)
    )
    gram = x_KD.T @ x_KD
    ridge = 1e-4 * np.trace(gram) / len(gram) * np.eye(len(gram))
    predicted = held_KD @ np.linalg.solve(gram + ridge, x_KD.T @ y_KV)
    total = np.sum(held_KV**2)
    return float(1 - np.sum((held_KV - predicted) ** 2) / total) if total > 1e-12 else math.nan


def domains(seen: Seen, untrained: Seen) -> Json:
    """Separation of domains: how much better than chance the nearest centroid predicts the domain from a residual
    state, where the exact posterior of a domain is above 0.9. Centroids and the Mahalanobis metric are fitted on the
    other half of the sequences. With K domains and mean recall a, the separation is (a − 1/K) / (1 − 1/K). The null
    matters: a random initialisation separates domains to a degree too. `subspaces`: whether they vary in different
    directions.
    """
    log_domains_BPK = np.asarray(seen.log_domains_BPK)
    domain_BP = log_domains_BPK.argmax(axis=-1)
    weight_BP = np.asarray(seen.batch.weight_BP)
    return {
        "separation": separation(last_residual(seen), log_domains_BPK),
        "untrained": separation(last_residual(untrained), log_domains_BPK),
        "shuffled": separation(last_residual(seen), log_domains_BPK, np.roll(domain_BP, 1, axis=0)),
        "subspaces": {
            **subspaces(last_residual(seen), log_domains_BPK, weight_BP),
            "untrained": subspaces(last_residual(untrained), log_domains_BPK, weight_BP),
            "shuffled": subspaces(last_residual(seen), np.roll(log_domains_BPK, 1, axis=0), weight_BP),
        },
    }


def separation(state_BPD: np.ndarray, log_domains_BPK: np.ndarray, domain_BP: np.ndarray | None = None) -> float:
    """The separation of the domains (as in `domains`), or of other labels `domain_BP` of the same states."""
    sure_BP = log_domains_BPK.max(axis=-1) > math.log(0.9)
    domain_BP = log_domains_BPK.argmax(axis=-1) if domain_BP is None else domain_BP
    half = len(state_BPD) // 2
    fit, held = (
        (state_BPD[part][sure_BP[part]], domain_BP[part][sure_BP[part]]) for part in (slice(half), slice(half, None))
    )
    kinds = np.unique(fit[1])
    if len(kinds) < 2:
        return math.nan
    within = np.concatenate([fit[0][fit[1] == k] - fit[0][fit[1] == k].mean(axis=0) for k in kinds])
    whiten = np.linalg.inv(within.T @ within / len(within) + 1e-3 * np.eye(within.shape[1]) * within.var())
    centre = np.stack([fit[0][fit[1] == k].mean(axis=0) for k in kinds])
    away = held[0][:, None] - centre[None]
    named = kinds[np.argmin(np.einsum("kcd,de,kce->kc", away, whiten, away), axis=1)]
    recall = np.mean([np.mean(named[held[1] == k] == k) for k in kinds if (held[1] == k).any()])
    return float((recall - 1 / len(kinds)) / (1 - 1 / len(kinds)))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
