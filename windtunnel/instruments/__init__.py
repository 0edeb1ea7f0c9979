"""Instruments: what a trained model does inside, each number beside its null. They read models through taps alone.

An instrument is a file of this folder with four functions: `refusal(subject) -> str | None` says in one line why it
does not apply to a study; `measure(subject) -> Json` takes a `base.Subject` and returns the record that `probe.json`
keeps; `lines(record)` describes the record in sentences; `headline(record)` gives the few numbers for tables and time
series. `docs/instruments.md` has the formula, the null and the interpretation of every number. An instrument of a
plug-in is such a file elsewhere, with its question in the constant QUESTION.
"""

import importlib
from typing import Any

INSTRUMENTS = {
    "geometry": "are keys an orthogonal frame of the hypotheses, and do residual states carry the belief?",
    "consistency": "do attention weights compute the exact posterior, and does the prediction rest on it?",
    "stability": "how does it decay past the horizon, and what fails first?",
    "convergence": "how fast do exact and model's entropies fall, beside the law that applies?",
    "beliefs": "do residual states hold the belief over a hidden state, and does a state put in force what follows?",
    "exchangeability": "does a prediction stay what it is when the same evidence comes in another order?",
    "implied": "which prior was learned: what futures does the model imagine, beside those of the data?",
    "routing": "is the gate the exact posterior over domains, and do predictions rest on it?",
    "acting": "what are predictions worth to an agent that acts on them?",
    "calibration": "does it know what it does not know, and can that be read off its attention?",
    "channels": "where two sources disagree, does each weigh as much as its reliability says?",
    "dynamics": "do scores move by advantage routing, and values to the queries that use them?",
}
FOREIGN: dict[str, Any] = {}  # the modules of plug-ins, by name


def instrument(name: str) -> Any:
    """The module of an instrument."""
    return FOREIGN[name] if name in FOREIGN else importlib.import_module(f"windtunnel.instruments.{name}")
