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
# # From runs to a recommendation
#
# We have a base language model and a body of domain text. Trained on domain text alone, the model
# forgets what it knew. Mixed with general text, it forgets less and learns the domain more slowly.
# Which share of domain text, and which learning rate, is right for the large run?
#
# Here the answer comes from 50 small runs that are part of the package. Two small Llama-type
# models that never saw Chinese script learn classical Chinese verse, at seven shares and five
# learning rates. Each run ends with a short decay to zero. Load your own table with
# `dcpt.load_runs("runs.csv")`, or open a study with `dcpt.open_study("study.yaml")`.

# %%
# %matplotlib inline
import dcpt

runs = dcpt.bundled_runs("zh_annealed")
runs.groupby("n_params")[["run", "ratio", "learning_rate"]].nunique()

# %% [markdown]
# One row is one evaluation: the losses of every channel, in nats per token, after `n_tokens` of
# continual pre-training. Rows of phase `annealed` are the ends of decays: that is the model that
# you would ship.

# %%
runs.query("phase == 'annealed'")[
    ["run", "n_params", "ratio", "learning_rate", "loss_general", "loss_domain"]
].head()

# %% [markdown]
# ## Fit
#
# Every law that the table supports is fitted to each channel. The laws are weighted by their error
# on held-out runs, since no law is right everywhere. Bootstrap refits on resampled runs give the
# intervals.

# %%
fit = dcpt.fit(runs)
fit.summary()

# %% [markdown]
# The general loss starts at that of the base and rises: more at a larger share, and much more at a
# higher learning rate. Circles are measured at a constant rate, diamonds at the end of a decay.
# Lines and dashes are the predictions of the laws.

# %%
dcpt.plot(fit, runs, kind="losses", channel="general")

# %% [markdown]
# Measured minus predicted loss should scatter around zero. The decision depends on the filled
# marks, the ends of decays: they should scatter by much less than the rise that we allow.

# %%
dcpt.plot(fit, runs)

# %% [markdown]
# ## Decide
#
# The large run is a base of 29.1M parameters, four times the largest size in the runs, with 44M
# tokens, decay included. We want the lowest domain loss. The general loss may rise by 3 %.

# %%
target = dcpt.Target(
    n_params=29_106_688,
    n_tokens=44_000_000,
    limit="+3%",
    base_losses={"general": 2.775},
    base_peak_learning_rate=1e-3,
)
recommendation = dcpt.recommend(fit, target)
print("\n\n".join(dcpt.summarise(recommendation)))

# %% [markdown]
# The trade-off at the recommended learning rate. The bands around the curves are 90 % intervals of
# the prediction, the green band is that of the best share, and the dashed line is the limit.

# %%
dcpt.plot(recommendation)

# %% [markdown]
# The same over learning rates: each line goes through the shares at one rate. The best pair is
# where the lowest line meets the limit. The same share at another rate gives other losses.

# %%
dcpt.plot(recommendation, kind="frontier")

# %% [markdown]
# Any other pair can be predicted with the fit.

# %%
fit.predict(
    n_params=29_106_688,
    n_tokens=44_000_000,
    ratio=[0.25, 0.5, 0.75, 0.9],
    learning_rate=recommendation.best.learning_rate,
    phase="annealed",
    base_loss_general=2.775,
    base_peak_learning_rate=1e-3,
)[["ratio", "channel", "loss", "low", "high"]]

# %% [markdown]
# `dcpt.write_report("report", runs=runs, fit=fit, recommendation=recommendation, title="Verse")`
# writes the report: one page with all of this.
