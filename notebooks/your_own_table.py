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
# # Your own table
#
# Runs of any trainer come as a table: CSV or parquet, one row per evaluation. This notebook makes
# such a file from bundled runs, with column names of another trainer, and goes from the file to a
# recommendation and its page. With your own file, start at the second cell of code.

# %%
# %matplotlib inline
import dcpt

names = {"n_params": "N", "n_tokens": "tokens", "loss_domain": "loss_verse"}
other = dcpt.bundled_runs("zh_annealed").rename(columns=names)
other.to_csv("runs.csv", index=False)
list(other.columns)

# %% [markdown]
# ## Read
#
# `dcpt runs` checks every cell. A bad one is named by row, column, value, rule and remedy. Columns
# with other names are mapped.

# %%
# !dcpt runs runs.csv --column n_params=N --column n_tokens=tokens --column loss_domain=loss_verse

# %%
runs = dcpt.load_runs(
    "runs.csv", {"n_params": "N", "n_tokens": "tokens", "loss_domain": "loss_verse"}
)
runs.head(3)

# %% [markdown]
# The columns that laws read are listed in the reference of the runs table. The most useful ones
# beside the losses: size, tokens, `ratio` (share of domain text), `learning_rate`, and `phase`
# (`constant`, or `annealed` after a decay to zero).

# %%
runs.groupby(["phase", "n_params"])[["ratio", "learning_rate", "n_tokens"]].agg(["min", "max"])

# %% [markdown]
# ## Check
#
# The channel losses show whether text and training are sound. An alarm here comes before any fit.

# %%
found = dcpt.diagnose(runs)
found.counts()

# %% [markdown]
# ## Fit
#
# The column "held out" has the errors on sizes, tokens, shares and learning rates that a law did
# not see. They decide the weights of the laws; the fit on the points themselves does not.

# %%
fit = dcpt.fit(runs)
fit.summary()

# %% [markdown]
# Rows that were not fitted, and why.

# %%
fit.left_out().groupby(["channel", "reason"]).size()

# %% [markdown]
# ## Decide
#
# The target needs the loss of its own base, measured on the validation text of the runs.

# %%
target = dcpt.Target(
    n_params=29_100_000,
    n_tokens=44_000_000,
    limit="+3%",
    base_losses={"general": 2.775},
    base_peak_learning_rate=1e-3,
)
recommendation = dcpt.recommend(fit, target)
print("\n\n".join(dcpt.summarise(recommendation)))

# %%
dcpt.plot(recommendation)

# %% [markdown]
# ## Report
#
# One page with the answer, its evidence and its warnings. It needs no network.

# %%
dcpt.write_report(
    "report", runs=runs, fit=fit, recommendation=recommendation, title="From my own table"
)
