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
# # The channel losses of a real run
#
# A mixed loss hides what happens: the domain gets better while everything else gets worse. This
# notebook follows the losses of each channel through a run, from the base to the end of its decay.

# %%
# %matplotlib inline
import dcpt

runs = dcpt.bundled_runs("zh_annealed")
large = runs.query("n_params == n_params.max() and learning_rate == 9e-4")
large["run"].unique()

# %% [markdown]
# ## One run
#
# Half of its tokens are domain text. Losses are in nats per token on fixed validation text.

# %%
run = large.query("ratio == 0.5")
run[["phase", "n_tokens", "loss_general", "loss_domain"]]

# %% [markdown]
# The domain loss falls at once and goes on falling. The general loss jumps when the learning rate
# comes back (the re-warm rise), and stays above the base's.

# %%
base = run.query("phase == 'base'").iloc[0]
rise = run.assign(
    general=run["loss_general"] - base["loss_general"],
    domain=run["loss_domain"] - base["loss_domain"],
).query("phase == 'constant'")
rise.plot(x="n_tokens", y=["general", "domain"], logx=True, ylabel="loss minus the base's (nats)")

# %% [markdown]
# ## The decay gives a part back
#
# At the end of the run the rate decays to zero. A part of the general rise was noise of the high
# rate, and it goes. The model that is shipped is the one after the decay.

# %%
ends = large[large["phase"] != "base"].sort_values("n_tokens").groupby(["ratio", "phase"]).last()
ends[["loss_general", "loss_domain"]].unstack("phase").round(3)

# %% [markdown]
# ## The rate decides as much as the share
#
# At the end of the decay, by share (rows) and learning rate (columns): first the general loss, then
# that of the domain.

# %%
annealed = runs.query("phase == 'annealed' and n_params == n_params.max()")
annealed.pivot_table(index="ratio", columns="learning_rate", values="loss_general").round(3)

# %%
annealed.pivot_table(index="ratio", columns="learning_rate", values="loss_domain").round(3)

# %% [markdown]
# ## All runs at once
#
# Circles are measured at a constant rate, diamonds after a decay. The lines are fitted laws.

# %%
fit = dcpt.fit(runs)
dcpt.plot(fit, runs, kind="losses", channel="general")

# %%
dcpt.plot(fit, runs, kind="losses", channel="domain")

# %% [markdown]
# ## What the losses say about text and training
#
# `dcpt diagnose` compares each run with what healthy runs show: leaked validation text, repeated
# text, a broken base, spikes, runs that do not fit the others. There is no alarm here. All 50 runs
# are worth a look, since the base never saw the domain's script.

# %%
found = dcpt.diagnose(runs)
found.counts()

# %%
[finding.sentence for finding in found.with_verdict("look")][:1]
