"""`make cost`: exponents with their intervals, and cells that are compared where both are there."""

import numpy as np

import cost


def test_an_exponent_and_its_interval():
    exact = [{"tokens": 2**n, "seconds": 3e-6 * 2.0 ** (1.5 * n)} for n in (13, 15, 17, 19)]
    assert cost.exponent(exact, "seconds") == "1.50 ± 0.00"
    assert cost.exponent(exact[:2], "seconds") == "1.50"
    assert cost.exponent(exact[:1], "seconds") == "–"
    noisy = [
        {**cell, "seconds": cell["seconds"] * factor} for cell, factor in zip(exact, (1.2, 0.8, 1.2, 0.8), strict=True)
    ]
    assert float(cost.exponent(noisy, "seconds").split("±")[1]) > 0.1


def test_predictions_are_compared_with_those_of_exact_attention(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "ROOT", tmp_path)
    cell = {"task": "die", "method": "sparse", "tokens": 8}
    assert cost.compare(cell) == {}
    for method, p in (("exact", [0.5, 0.5]), ("sparse", [0.25, 0.75])):
        np.savez(tmp_path / f"die-{method}-8.npz", log_q=np.log([p, [0.5, 0.5]]))
    expected = 0.5 * np.log2(2) + 0.5 * np.log2(2 / 3)
    gap = cost.compare(cell)
    np.testing.assert_allclose([gap["mean"], gap["worst"]], [expected / 2, expected])


def test_every_cell_is_of_a_study_that_the_door_takes():
    for task in cost.TASKS:
        assert cost.study_of(task, 3).model.layers >= 2
