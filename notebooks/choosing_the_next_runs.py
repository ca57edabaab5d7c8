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
# # Choosing the next runs
#
# A recommendation is as good as its runs. This notebook asks which few further runs would narrow
# the share most, and what they cost compared with the large run.

# %%
# %matplotlib inline
import pandas as pd

import dcpt

runs = dcpt.bundled_runs("zh_annealed")
fit = dcpt.fit(runs)
target = dcpt.Target(
    n_params=29_100_000,
    n_tokens=44_000_000,
    limit="+3%",
    base_losses={"general": 2.775},
    base_peak_learning_rate=1e-3,
)
recommendation = dcpt.recommend(fit, target)
print("\n\n".join(dcpt.summarise(recommendation)))

# %% [markdown]
# ## Where the doubt is
#
# The interval of the share, and what limits the evidence. The largest size of the runs is a quarter
# of the target's.

# %%
print(recommendation.ratio_interval, recommendation.evidence.level)

# %%
[reason.needed for reason in recommendation.evidence.reasons]

# %% [markdown]
# ## What to train
#
# With half of the price of the large run: short runs at the target's own size, each a quarter of
# its tokens. The last column is the interval of the share that is expected after each run.

# %%
chosen = dcpt.next_runs(fit, target, "50%")
pd.DataFrame(
    {
        "share": [run.ratio for run in chosen.runs],
        "learning rate": [run.learning_rate for run in chosen.runs],
        "tokens": [run.n_tokens for run in chosen.runs],
        "of the large run's FLOPs": [run.price.share for run in chosen.runs],
        "interval after it, low": [run.ratio_interval.low for run in chosen.runs],
        "interval after it, high": [run.ratio_interval.high for run in chosen.runs],
    }
).round(3)

# %% [markdown]
# ## What a smaller budget buys

# %%
smaller = dcpt.next_runs(fit, target, "30%")
[(run.ratio, run.learning_rate, run.price.share) for run in smaller.runs]

# %% [markdown]
# In a study, `dcpt refine` trains these runs, fits again and recommends again. For a table, train
# them with your trainer, add their rows, and start from the first cell. How much such runs help was
# measured on held-out domains: see "How much should I trust this?".
