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
# We have a base language model and a body of domain text. Trained on domain text alone the model
# forgets what it knew; mixed with general text it forgets less and learns the domain slower. Which
# share of domain text, at which learning rate, is right for the large run?
#
# Here the answer is read off 50 small runs that come with the package: classical Chinese verse
# learnt by two small Llama-type models that never saw the script, at seven shares and five learning
# rates, each with a short decay to zero at its end. Your own table goes in the same way:
# `dcpt.load_runs("runs.csv")`.

# %%
# %matplotlib inline
import dcpt
from dcpt.decide.sentences import summarise
from dcpt.report.decision_figures import plot_frontier, plot_trade_off
from dcpt.report.fit_figures import plot_loss_curves, plot_predicted_measured
from dcpt.table import describe

runs = dcpt.bundled_runs("zh_annealed")
describe(runs)

# %% [markdown]
# One row is one evaluation: the losses of every channel, in nats per token, after `n_tokens` of
# continual pre-training. Rows of phase `annealed` end a decay: they are what would be shipped.

# %%
runs.query("phase == 'annealed'")[
    ["run", "n_params", "ratio", "learning_rate", "loss_general", "loss_domain"]
].head()

# %% [markdown]
# ## Fit
#
# Every law that the table can carry is fitted to each channel and weighed by how well it predicts
# runs that were held out: no law is safe, so the error on what it has not seen decides. Then all is
# fitted again on resampled runs, which gives the intervals.

# %%
fit = dcpt.fit(runs)
fit.summary()

# %% [markdown]
# The general loss starts at the base's own and rises: more at a larger share, and much more at a
# higher learning rate. Circles are measured at constant rate, diamonds at the end of a decay; lines
# and dashes are what the laws say there.

# %%
plot_loss_curves(fit, runs, "general")

# %% [markdown]
# Measured minus predicted loss should scatter around zero. The filled marks, the ends of decays,
# are what the decision rests on: they should scatter by much less than the rise that we allow.

# %%
plot_predicted_measured(fit, runs)

# %% [markdown]
# ## Decide
#
# The large run is a base of 29.1M parameters, four times beyond the largest that the runs saw, with
# 44M tokens, decay included. We want the lowest domain loss, and the general loss may rise by 3 %.

# %%
target = dcpt.Target(
    n_params=29_106_688,
    n_tokens=44_000_000,
    limit=dcpt.Limit.parse("+3%"),
    base_losses={"general": 2.775},
    base_peak_learning_rate=1e-3,
)
recommendation = dcpt.recommend(fit, target)
print("\n\n".join(summarise(recommendation)))

# %% [markdown]
# The trade-off at the recommended learning rate. Bands around the curves are 90 % intervals of the
# prediction, the green one is that of the best share, and the dashed line is the limit.

# %%
plot_trade_off(recommendation)

# %% [markdown]
# And over learning rates: each line runs through the shares at one rate. The best pair is where the
# lowest line meets the limit. The same share at another rate is another decision.

# %%
plot_frontier(recommendation)

# %% [markdown]
# Any other question goes to the fit itself.

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
# writes all of this as one page.
