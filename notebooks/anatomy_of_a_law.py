# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Anatomy of a law
#
# A law is a formula for the loss of one channel: how it depends on size, tokens, the share of
# domain text and the learning rate. This notebook fits a law for each channel, looks at its
# parameters, and shows why its predictions are more certain than its parameters.

# %%
# %matplotlib inline
import pandas as pd

import dcpt

runs = dcpt.bundled_runs("zh_annealed")
fit = dcpt.fit(runs, law=["annealed-general", "annealed-domain"])
general, domain = fit.records()
print(general["formula"])
print(domain["formula"])

# %% [markdown]
# ## Parameters
#
# Each has a meaning, a unit and a fitted value. A flag `at_bound` marks a value on the edge of its
# range: the runs do not determine it.

# %%
pd.DataFrame(
    {
        "meaning": general["meanings"],
        "unit": general["units"],
        "value": general["parameters"],
    }
)

# %%
[flag["sentence"] for flag in general["flags"]]

# %% [markdown]
# ## Shape
#
# The predicted general loss of 6.6M parameters after 44M tokens and a decay: rows are learning
# rates, columns are shares. A higher rate makes the same share cost more.

# %%
shares, rates = [0.1, 0.25, 0.5, 0.75, 0.9], [1e-4, 3e-4, 9e-4]
grid = fit.predict(
    n_params=6_622_464,
    n_tokens=44_000_000,
    ratio=shares * len(rates),
    learning_rate=sorted(rates * len(shares)),
    phase="annealed",
    base_loss_general=2.979,
    base_peak_learning_rate=1e-3,
)
grid.pivot(index=["channel", "learning_rate"], columns="ratio", values="loss").round(3)

# %% [markdown]
# ## What the law gets wrong
#
# A good law scatters closely around zero at every size. A bend, or a size to one side, is an effect
# that the formula lacks.

# %%
dcpt.plot(fit, runs)

# %% [markdown]
# Errors on held-out runs, in nats (root mean square). A prediction beyond the runs is about as
# wrong as these, not as the misses above.

# %%
pd.DataFrame({record["channel"]: record["held_out"] for record in fit.records()}).round(4)

# %% [markdown]
# ## Why several laws
#
# No law is best everywhere. By default, all laws that the table supports are fitted, and those with
# low held-out errors are averaged. Here are their weights for losses after a decay.

# %%
every = dcpt.fit(runs)
pd.DataFrame({channel: every.weights(channel, "annealed") for channel in every.channels}).fillna(
    0.0
)

# %% [markdown]
# The same grid by the weighted mean. The width is that of the 90 % interval: it covers resampled
# runs, the spread between laws and their held-out errors.

# %%
mean = every.predict(
    n_params=6_622_464,
    n_tokens=44_000_000,
    ratio=shares,
    learning_rate=3e-4,
    phase="annealed",
    base_loss_general=2.979,
    base_peak_learning_rate=1e-3,
)
mean.assign(width=mean["high"] - mean["low"])[["channel", "ratio", "loss", "low", "high", "width"]]

# %% [markdown]
# A formula of your own is a function and a record: see the how-to "Add a law".
