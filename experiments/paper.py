"""The figures the paper publishes, once; nothing here was measured by this project."""

import math

_ATTACKS = ("Clean", "FGSM", "CW", "RP", "BPDA")
_NONE = math.nan  # "-" or "n/a" in the paper


def _rows(**rows):
    names = {"none": "No Defense", "defensegan": "DefenseGAN", "invgan": "InvGAN"}
    return {
        (names[name], attack): value
        for name, values in rows.items()
        for attack, value in zip(_ATTACKS[-len(values) :], values)
        if not math.isnan(value)
    }


TABLE2 = {
    "mnist": _rows(
        none=(0.99, 0.18, 0.01, 0.72, _NONE),
        defensegan=(0.98, 0.83, 0.96, 0.92, 0.79),
        invgan=(0.99, 0.78, 0.99, 0.92, 0.87),
    ),
    "fashion_mnist": _rows(
        none=(0.92, 0.06, 0.06, 0.41, _NONE),
        defensegan=(0.81, 0.34, 0.80, 0.54, 0.59),
        invgan=(0.88, 0.28, 0.87, 0.49, 0.71),
    ),
    "cifar10": _rows(
        none=(0.95, 0.16, 0.02, 0.84, _NONE),
        defensegan=(0.44, 0.43, 0.44, 0.44, _NONE),
        invgan=(0.66, 0.60, 0.58, 0.61, _NONE),
    ),
    "celeb_a": _rows(
        none=(0.97, 0.05, 0.04, 0.96, _NONE),
        defensegan=(0.89, 0.88, 0.88, 0.89, _NONE),
        invgan=(0.93, 0.90, 0.92, 0.90, _NONE),
    ),
}
"""Table 2: accuracy by dataset, then (row, column); absent where the paper has none."""

TABLE3 = {
    "mnist": _rows(defensegan=(0.9878, 0.9661, 0.9801, 0.8706), invgan=(0.9985, 0.9880, 0.9975, 0.9210)),
    "fashion_mnist": _rows(defensegan=(0.9563, 0.7752, 0.9364, 0.8999), invgan=(0.9932, 0.8543, 0.9845, 0.9334)),
    "cifar10": _rows(defensegan=(0.6524, 0.6823, 0.4537, 0.5950), invgan=(0.8132, 0.8370, 0.5469, 0.7807)),
    "celeb_a": _rows(defensegan=(0.8753, 0.7341, 0.4488, 0.7491), invgan=(0.9042, 0.7764, 0.4781, 0.7233)),
}
"""Table 3: area under the ROC curve by dataset, then (row, column)."""

TABLE4 = {
    dataset: {(row, "Black box"): value for row, value in zip(("No Defense", "DefenseGAN", "InvGAN"), values)}
    for dataset, values in {
        "mnist": (0.6631, 0.9398, 0.9449),
        "fashion_mnist": (0.4988, 0.6320, 0.6596),
    }.items()
}
"""Table 4: accuracy under the black-box attack by dataset, then (row, column)."""


def _inversion(rows):
    return {
        (row, column): value
        for row, values in rows.items()
        for column, value in zip(("MSE", "IS", "FID", "Accuracy"), values)
    }


TABLE1 = _inversion(
    {
        "ALI": (0.32, 6.12, 57.79, 0.35),
        "AGE": (0.06, 6.43, 39.93, 0.43),
        "Direct Optimization": (0.03, 6.50, 40.18, 0.44),
        "InvGAN (T=0)": (0.10, 7.72, 22.35, 0.59),
        "InvGAN (T=200)": (0.08, 7.36, 23.91, 0.59),
    }
)
"""Table 1, CIFAR-10: (row, column)."""

TABLE5 = _inversion({"w/o L_adv": (0.08, 7.54, 28.07, 0.603), "Ours": (0.10, 7.72, 19.85, 0.625)})
"""Table 5, CIFAR-10: (row, column)."""
