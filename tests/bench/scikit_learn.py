"""The same fits by scikit-learn and statsmodels: equal coefficients, both times.

Usage: python tests/bench/scikit_learn.py TARGET/release/examples/fits [RUNS.csv]

Run by an environment of its own that holds scikit-learn and statsmodels. Fits
Bayesian ridge regressions (`BayesianRidge()`, the defaults) to windows of ten
runs and autoregressions (order by AIC) to series of 100 values, of the log where
one is given and of a fixed pseudo-random series. Exits with 1 when a
coefficient differs by more than a millionth.
"""

import csv
import json
import random
import subprocess
import sys
import time
import warnings

import numpy
import sklearn
import statsmodels
from sklearn.linear_model import BayesianRidge
from statsmodels.tsa.ar_model import AutoReg, ar_select_order

MAX_ORDER = 15
TOLERANCE = 1e-6


def windows_of_runs(log):
    """Windows of ten (items, seconds), from the log or drawn."""
    if log:
        with open(log, newline="") as file:
            rows = list(csv.DictReader(file))
        for runtime in sorted({row["runtime"] for row in rows}):
            runs = [(float(r["image_num"]), float(r["act_proc"])) for r in rows if r["runtime"] == runtime]
            for start in range(0, len(runs) - 9, 5):
                yield runs[start:start + 10]
    draw = random.Random(7)
    for _ in range(60):
        slope, height = draw.uniform(0.1, 2.0), draw.uniform(0.0, 30.0)
        sizes = [draw.randint(1, 300) for _ in range(10)]
        yield [(float(n), (slope * n + height) * draw.gauss(1.0, 0.1)) for n in sizes]


def series():
    """Series of 100 values that lags explain in part."""
    draw = random.Random(11)
    for pull in (0.0, 0.3, 0.6, -0.5, 0.9):
        value, values = 0.0, []
        for _ in range(100):
            value = pull * value + draw.gauss(0.0, 4.0)
            values.append(30.0 + value)
        yield values


def theirs_ridge(points):
    x = numpy.array([[p[0]] for p in points])
    y = numpy.array([p[1] for p in points])
    started = time.perf_counter_ns()
    model = BayesianRidge().fit(x, y)
    took = time.perf_counter_ns() - started
    return list(model.coef_), float(model.intercept_), took


def theirs_autoregression(values):
    started = time.perf_counter_ns()
    chosen = ar_select_order(values, MAX_ORDER, ic="aic")
    order = len(chosen.ar_lags or [])
    model = AutoReg(values, order).fit()
    took = time.perf_counter_ns() - started
    return list(model.params[1:]), float(model.params[0]), took


def compare(what, ours, theirs):
    """The largest relative difference; prints times side by side."""
    worst = 0.0
    for mine, (coefficients, intercept, _) in zip(ours, theirs, strict=True):
        if len(mine["coefficients"]) != len(coefficients):
            print(f"{what}: orders differ: {len(mine['coefficients'])} and {len(coefficients)}")
            return float("inf")
        pairs = zip(mine["coefficients"] + [mine["intercept"]], coefficients + [intercept])
        worst = max([worst] + [abs(a - b) / max(1.0, abs(b)) for a, b in pairs])
    ours_us = sorted(mine["ns"] for mine in ours)[len(ours) // 2] / 1e3
    theirs_us = sorted(t[2] for t in theirs)[len(theirs) // 2] / 1e3
    print(
        f"{what}: {len(ours)} fits, largest difference {worst:.1e}; "
        f"{ours_us:.1f} us against {theirs_us:.0f} us, {theirs_us / ours_us:.0f} times"
    )
    return worst


def main():
    binary, log = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else None)
    warnings.simplefilter("ignore")
    print(f"scikit-learn {sklearn.__version__}, statsmodels {statsmodels.__version__}")
    runs, values = list(windows_of_runs(log)), list(series())
    lines = ["ridge " + " ".join(f"{x!r},{y!r}" for x, y in points) for points in runs]
    lines += [f"autoregression {MAX_ORDER} " + " ".join(map(repr, one)) for one in values]
    answer = subprocess.run([binary], input="\n".join(lines), capture_output=True, text=True, check=True)
    fitted = [json.loads(line) for line in answer.stdout.splitlines()]
    worst = [
        compare("Bayesian ridge", fitted[:len(runs)], [theirs_ridge(points) for points in runs]),
        compare("autoregression", fitted[len(runs):], [theirs_autoregression(one) for one in values]),
    ]
    return 0 if max(worst) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
